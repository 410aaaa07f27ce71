"""A receiver on loopback that behaves as receivers do: it verifies, answers, fails, is slow, hangs, or moves away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request: what its CloudEvent says, and its signatures as the receiver checked them."""

    path: str
    event: dict[str, Any]
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> bool:
        """Whether one of the signatures is this secret's. Written from the specification, not with our own code."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{expected}" in self.headers["webhook-signature"].split(" ")


Answer = Callable[[Received], web.Response]


def ok(_: Received) -> web.Response:
    return web.Response(text="x" * 100)


def status(code: int, **headers: str) -> Answer:
    return lambda _: web.Response(
        status=code, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@dataclass
class Receiver:
    """`answers[path]` decides; a path in `hanging` never answers. `got` is every request, in order."""

    port: int = 0
    got: list[Received] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    hanging: dict[str, asyncio.Event] = field(default_factory=dict)
    at_once: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/hook") -> str:
        return f"http://receiver.example:{self.port}{path}"

    def of(self, path: str) -> list[Received]:
        return [each for each in self.got if each.path == path]

    async def until(self, path: str, count: int) -> list[Received]:
        """The requests to a path, once there are so many."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.of(path)) >= count)
        return self.of(path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.path, json.loads(body), headers, body)
        path = request.path
        self.at_once[path] = self.at_once.get(path, 0) + 1
        self.most_at_once[path] = max(self.most_at_once.get(path, 0), self.at_once[path])
        async with self._news:
            self.got.append(received)
            self._news.notify_all()
        try:
            if path in self.hanging:
                await self.hanging[path].wait()
            return self.answers.get(path, ok)(received)
        finally:
            self.at_once[path] -= 1


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver that listens on loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{name}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        for event in receiver.hanging.values():
            event.set()
        await runner.cleanup()
