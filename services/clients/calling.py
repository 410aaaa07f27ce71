"""Calls to one HTTP service, with everything that keeps a slow or absent one from stopping the stream.

In: a request and a function that reads the answer. Out: what that function returns. Around each call, from the
outside in: one deadline for all of it, the retry budget (`retries.py`), the in-flight limit, the circuit
(`breaker.py`), and one more try with a fresh key where the old one was refused. The services' dialects are in
`models.py` and `oip.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from services.clients.breaker import Breaker, Circuit, ignore_change
from services.clients.retries import RetryBudget
from services.core.errors import Unavailable

ANSWER_BYTES = 200_000_000
"""Largest answer that is read: twice the bytes of a 64-megapixel grey PNG that does not compress, in base64."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard a service may be pressed. See `ModelSettings` for the meaning of each."""

    timeout_s: float = 60.0
    in_flight: int = 8
    retry_share: float = 0.1
    breaker_failures: int = 5
    breaker_open_s: float = 5.0


def ignore_retry() -> None:
    """The listener where none was given."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who hears of retries and of the circuit's changes: metrics."""

    on_retry: Callable[[], None] = ignore_retry
    on_circuit: Callable[[Circuit], None] = ignore_change


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP answer. `media_type` is lower case and without parameters."""

    status: int
    media_type: str
    body: bytes

    @property
    def start(self) -> str:
        """The beginning of the body, for error texts."""
        return self.body[:300].decode(errors="replace").strip()


class KeyRefused(Unavailable):
    """The service did not accept our key. Raised by a reader; the call then tries once more with a fresh one."""


class Bearer:
    """The bearer token of a service: fixed, from a key file that the server rewrites, or none at all. `purpose` says
    which of the file's keys.

    TorchServe's key file is `{"inference": {"key": ..., "expiration time": ...}, "management": ..., "API": ...}`.
    The token is never logged and never part of an error's text.
    """

    def __init__(
        self, dependency: str, *, token: str | None = None, key_file: Path | None = None, purpose: str = "inference"
    ) -> None:
        self._dependency = dependency
        self._purpose = purpose
        self._token = token
        self._key_file = key_file

    def token(self) -> str | None:
        """The token to send, read from the key file the first time. Raises Unavailable if that cannot be read."""
        if self._token is None and self._key_file is not None:
            self._token = self._read(self._key_file)
        return self._token

    def renewed(self, refused: str | None) -> bool:
        """Read the key file again; whether there is another token now than the one that was refused."""
        if self._key_file is None:
            return False
        self._token = self._read(self._key_file)
        return self._token != refused

    def _read(self, path: Path) -> str:
        try:
            key = json.loads(path.read_bytes())[self._purpose]["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = f"cannot read the {self._purpose} key in {path} ({type(error).__name__}); is the model server up?"
            raise Unavailable(self._dependency, text) from error
        return str(key)


class Caller:
    """One service at one base URL, called `dependency` in errors. Owns its connections: `close()` them."""

    def __init__(
        self,
        url: str,
        *,
        dependency: str,
        limits: Limits,
        bearer: Bearer,
        watch: Watch,
        clock: Callable[[], float],
    ) -> None:
        self._dependency = dependency
        self._limits = limits
        self._bearer = bearer
        self._watch = watch
        self._budget = RetryBudget(limits.retry_share)
        self.breaker = Breaker(
            dependency,
            failures=limits.breaker_failures,
            open_s=limits.breaker_open_s,
            clock=clock,
            on_change=watch.on_circuit,
        )
        self._slots = asyncio.Semaphore(limits.in_flight)
        self._http = httpx.AsyncClient(
            base_url=url,
            # Every call has its own deadline below; only connecting gets a shorter one.
            timeout=httpx.Timeout(None, connect=min(5.0, limits.timeout_s)),
            limits=httpx.Limits(max_connections=limits.in_flight + 2, max_keepalive_connections=limits.in_flight),
            headers={"accept-encoding": "identity"},
            trust_env=False,  # a proxy or .netrc from the environment must not see images or the key
        )

    def request(self, method: str, path: str, **content: object) -> httpx.Request:
        """A request below the base URL. `content` is httpx's `files=`, `data=` or `json=`, which a retry can resend."""
        return self._http.build_request(method, path, **content)  # type: ignore[arg-type]

    async def call(self, request: httpx.Request, read: Callable[[Answer], T]) -> T:
        """Send `request` and read the answer, within `timeout_s` in all.

        `read` raises Rejected, Broken, Unavailable or KeyRefused. Unavailable is retried while the budget lasts, except
        where it names a time to come back (then the caller has to wait, not we).
        """
        deadline = asyncio.get_running_loop().time() + self._limits.timeout_s
        self._budget.request()
        retry = 0
        while True:
            try:
                return await self._attempt(request, read, deadline)
            except Unavailable as error:
                if error.retry_after_s is not None or asyncio.get_running_loop().time() >= deadline:
                    raise
                pause_s = self._budget.pause(retry)
                if pause_s is None or asyncio.get_running_loop().time() + pause_s >= deadline:
                    raise
            retry += 1
            self._watch.on_retry()
            await asyncio.sleep(pause_s)

    async def probe(self, request: httpx.Request, read: Callable[[Answer], T], *, timeout_s: float = 5.0) -> T:
        """Send once and at once: no retry, no queue, and the circuit neither asked nor told. For health checks."""
        return await self._exchange(request, read, asyncio.get_running_loop().time() + timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _attempt(self, request: httpx.Request, read: Callable[[Answer], T], deadline: float) -> T:
        async with self._slot(deadline):
            with await self.breaker.allow():
                return await self._exchange(request, read, deadline)

    async def _exchange(self, request: httpx.Request, read: Callable[[Answer], T], deadline: float) -> T:
        token = self._bearer.token()
        try:
            return read(await self._send(request, token, deadline))
        except KeyRefused:
            if not self._bearer.renewed(token):
                raise
        return read(await self._send(request, self._bearer.token(), deadline))

    async def _send(self, request: httpx.Request, token: str | None, deadline: float) -> Answer:
        if token is not None:
            request.headers["authorization"] = f"Bearer {token}"
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.send(request, stream=True)
                try:
                    body = await self._body(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            text = f"{request.url} did not answer before the deadline"
            raise Unavailable(self._dependency, text) from error
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(self._dependency, f"{request.url} cannot be reached: {reason}") from error
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Answer(response.status_code, media_type, body)

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > ANSWER_BYTES:
                text = f"{response.url} answers with more than {ANSWER_BYTES} bytes; is it the model server?"
                raise Unavailable(self._dependency, text)
        return bytes(body)

    @asynccontextmanager
    async def _slot(self, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            text = (
                f"{self._dependency}: no free place among {self._limits.in_flight} calls in flight before the deadline"
            )
            raise Unavailable(self._dependency, text) from error
        try:
            yield
        finally:
            self._slots.release()
