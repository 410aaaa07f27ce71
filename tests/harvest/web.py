"""A small web of its own on loopback, that behaves as badly as the real one: the address is real, and so is HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import web

HUGE = 400_000


@dataclass
class Web:
    """Serves `pictures` by path. `asked` are (host, path, time) of all requests; `robots` is a text, or a status."""

    pictures: dict[str, bytes] = field(default_factory=dict)
    robots: dict[str, str | int] = field(default_factory=dict)
    port: int = 0
    asked: list[tuple[str, str, float]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    at_once: int = 0
    _running: Counter[str] = field(default_factory=Counter)

    def url(self, path: str, host: str = "localhost") -> str:
        return f"http://{host}:{self.port}{path}"

    def counts(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(path for _, path, _ in self.asked)

    def times(self, path: str) -> list[float]:
        return [at for _, asked, at in self.asked if asked == path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        host = request.host.split(":")[0]
        self.asked.append((host, request.path, monotonic()))
        self.agents.add(request.headers.get("User-Agent", ""))
        self._running[host] += 1
        self.at_once = max(self.at_once, self._running[host])
        try:
            return await self._answer(request, host)
        finally:
            self._running[host] -= 1

    async def _answer(self, request: web.Request, host: str) -> web.StreamResponse:
        path = request.path
        if path == "/robots.txt":
            found = self.robots.get(host, 404)
            return web.Response(status=found) if isinstance(found, int) else web.Response(text=found)
        if path.startswith("/to/"):
            _, _, host, rest = path.split("/", 3)
            raise web.HTTPFound(self.url(f"/{rest}", host))
        if path == "/busy-once" and len(self.times(path)) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        if path.startswith("/closed"):
            return web.Response(status=503, headers={"Retry-After": "86400"})
        if path == "/error":
            return web.Response(status=500)
        if path == "/html":
            return web.Response(text="<html>It moved to our new site</html>", content_type="text/html")
        if path == "/huge":
            return web.Response(body=b"\xff\xd8\xff" + b"x" * HUGE, content_type="image/jpeg")
        if path == "/slow":
            await asyncio.sleep(3600)
        if path.startswith("/after-a-while"):
            await asyncio.sleep(0.2)
        body = self.pictures.get(path)
        return web.Response(status=404) if body is None else web.Response(body=body, content_type="image/jpeg")


@contextmanager
def served(site: Web) -> Iterator[Web]:
    """The web, answering in a thread of its own until the block ends."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    socket_site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(socket_site.start())
    site.port = runner.addresses[0][1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield site
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
