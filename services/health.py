"""A worker's small HTTP endpoint: is it alive, is it ready, and what do its metrics say.

In: two callbacks and a metrics registry. Out: `/healthz`, `/readyz` and `/metrics` on one port, inside the worker's own
event loop, so that a loop that hangs fails its liveness probe too. It exists because Faust's web server listens on all
interfaces and serves table data. No authentication: bind it to loopback or to a pod's own network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

STALE = "INDEX-STALE"
"""How a part begins that works but is behind, see `stream/freshness.py`."""

READY_TIMEOUT_S = 10.0
"""A part that does not say within this that it is ready, is not."""


class HealthServer:
    """The endpoint. `port` 0 takes a free one.

    `alive` returns None, or why the process should be restarted. `ready` returns the parts that work depends on, each
    with None or with what is wrong; no parts means ready. `/readyz?stale=ok` is ready although a part is INDEX-STALE.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        alive: Callable[[], str | None],
        ready: Callable[[], Awaitable[dict[str, str | None]]],
        registry: CollectorRegistry,
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self._host = host
        self._port = port
        self._alive = alive
        self._ready = ready
        self._registry = registry
        self._ready_timeout_s = ready_timeout_s
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises OSError if the port is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        # No access log: probes come every few seconds. No signal handling: the worker owns its signals.
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, shutdown_timeout=1.0).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        return int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening. Harmless if not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        trouble = self._alive()
        body = {"alive": trouble is None, "reason": trouble}
        return web.json_response(body, status=200 if trouble is None else 503)

    async def _readyz(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                parts = await self._ready()
        except TimeoutError:
            parts = {"readiness": f"no answer within {self._ready_timeout_s:g} s"}
        # Whoever starts a worker must let it catch up: `?stale=ok` asks for everything else.
        forgiven = STALE if request.query.get("stale") == "ok" else None
        ready = all(trouble is None or (forgiven and trouble.startswith(forgiven)) for trouble in parts.values())
        shown = {name: trouble or "ok" for name, trouble in parts.items()}
        return web.json_response({"ready": ready, "parts": shown}, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(self._registry), headers={"content-type": content_type})
