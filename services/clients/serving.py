"""TorchServe's management API: which versions of a model are loaded, and which one serves.

In: a model's name, versions, the name of an archive in the server's store. Out: `Served`. Nothing is retried here: each
call says what is so, and may be repeated.

TorchServe's ways, as seen on 0.12:
- registering and removing are 405 unless it was started with `enable_model_api=true`; the default version can be set;
- a version whose workers do not start answers 500 and stays registered without workers;
- a version is removed with all that waits in its queue, whose senders never hear of it, so only idle ones are removed;
- the default version cannot be removed (403).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from services.clients.calling import Answer, Bearer, Caller, KeyRefused, Limits, Watch
from services.core.errors import Broken, Unavailable

DEPENDENCY = "serving"
ASK_S = 10.0  # for everything but loading a model
MARGIN_S = 15.0  # beyond the workers' own time to start

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """A version that is loaded: whether it serves, how many of its workers are ready, how many requests wait."""

    version: str
    serves: bool
    ready: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Workers:
    """How a version is served. The clients' deadline must be below `response_timeout_s`."""

    count: int = 1
    batch: int = 4
    max_delay_ms: int = 20
    response_timeout_s: int = 120
    startup_timeout_s: int = 300


class Serving:
    """The management API at `url`. `key_file` is TorchServe's `key_file.json`; `token` is for other ways to check.

    Every method raises Unavailable where the server is away, and Broken where it refuses, with what to do.
    """

    def __init__(
        self, url: str, *, key_file: Path | None = None, token: str | None = None, workers: Workers | None = None
    ) -> None:
        self._workers = workers or Workers()
        bearer = Bearer(DEPENDENCY, token=token, key_file=key_file, purpose="management")
        self._caller = Caller(
            url, dependency=DEPENDENCY, limits=Limits(), bearer=bearer, watch=Watch(), clock=time.monotonic
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._caller.close()

    async def served(self, model: str) -> list[Served]:
        """The loaded versions, the one that serves first; none where the model is not known."""
        default = await self._ask("GET", f"/models/{model}", _described)
        if not default:
            return []
        serves = default[0].version
        every = await self._ask("GET", f"/models/{model}/all", _described)
        found = [Served(each.version, each.version == serves, each.ready, each.queue.waiting) for each in every]
        return sorted(found, key=lambda each: not each.serves)

    async def register(self, model: str, file: str) -> None:
        """Load an archive of the store beside the other versions; returns when its workers are ready."""
        how = self._workers
        query = {
            "url": file,
            "model_name": model,
            "initial_workers": how.count,
            "synchronous": "true",
            "batch_size": how.batch,
            "max_batch_delay": how.max_delay_ms,
            "response_timeout": how.response_timeout_s,
            "startup_timeout": how.startup_timeout_s,
        }
        timeout_s = how.startup_timeout_s + MARGIN_S
        await self._ask("POST", "/models", _done, timeout_s=timeout_s, params=query)

    async def set_default(self, model: str, version: str) -> None:
        """From now on new requests go to this version; what others have in work they finish."""
        await self._ask("PUT", f"/models/{model}/{quote(version, safe='')}/set-default", _done)

    async def remove(self, model: str, version: str) -> None:
        """Unload a version, which must be idle. One that is not loaded is no error."""
        await self._ask("DELETE", f"/models/{model}/{quote(version, safe='')}", _gone)

    async def _ask(
        self, method: str, path: str, read: Callable[[Answer], T], *, timeout_s: float = ASK_S, **content: object
    ) -> T:
        return await self._caller.probe(self._caller.request(method, path, **content), read, timeout_s=timeout_s)


class _Worker(BaseModel):
    status: str


class _Queue(BaseModel):
    waiting: Annotated[int, Field(alias="pendingRequests")] = 0


class _Described(BaseModel):
    version: Annotated[str, Field(alias="modelVersion")]
    workers: list[_Worker] = []
    queue: Annotated[_Queue, Field(alias="jobQueueStatus")] = _Queue()

    @property
    def ready(self) -> int:
        """Workers that answer."""
        return sum(worker.status == "READY" for worker in self.workers)


_LIST = TypeAdapter(list[_Described])


def _described(answer: Answer) -> list[_Described]:
    if answer.status == 404:
        return []
    _done(answer)
    try:
        return _LIST.validate_json(answer.body)
    except ValidationError as error:
        raise Broken(f"the management API does not describe models as TorchServe does: {answer.start}") from error


def _gone(answer: Answer) -> None:
    if answer.status != 404:
        _done(answer)


def _done(answer: Answer) -> None:
    """Raise what an answer that is not 200 means."""
    if answer.status == 200:
        return
    if answer.status in (401, 403) and b"InvalidModelVersion" not in answer.body:
        raise KeyRefused(DEPENDENCY, "the model server refuses the management key; check PENTIMENTO_MODELS__KEY_FILE")
    if answer.status == 400 and b"InvalidKeyException" in answer.body:
        raise KeyRefused(DEPENDENCY, "the model server refuses the management key; check PENTIMENTO_MODELS__KEY_FILE")
    if answer.status == 405:
        raise Broken(
            "the model server lets nobody load models: start it with enable_model_api=true "
            "(the embedded one: pentimento up --promotions)"
        )
    if answer.status in (408, 429, 503):
        raise Unavailable(DEPENDENCY, f"the model server answered {answer.status}: {answer.start}")
    raise Broken(f"the model server refused ({answer.status}): {answer.start}")
