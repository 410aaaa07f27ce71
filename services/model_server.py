"""The model server as a process of its own: `python -m services.model_server`.

In: settings from the environment. Out: TorchServe on loopback with the project's models, and a door before it that
other machines may reach. TorchServe makes new keys at each start and keeps them in a file, which nobody on another
machine can read; the door asks for `PENTIMENTO_MODELS__TOKEN`, which both sides know, and goes in with the key of the
file. It lets predictions and `/ping` through and nothing else: management stays on loopback. Health and metrics have a
port of their own, as workers have.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp
import structlog
from aiohttp import web

from services.core.errors import PentimentoError, Unavailable
from services.local.torchserve import BODY_BYTES, EMBEDDER, JUDGES, Batching, ServerPorts, TorchServe
from services.settings import Settings, load_settings
from services.telemetry import configure

log = structlog.get_logger()

EXIT_AWAY = 1
EXIT_CONFIGURATION = 2
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
POLL_S = 0.5
CONTENT_TYPE = "content-type"


def refusal(settings: Settings) -> str | None:
    """Why the door must not be opened with these settings, or None."""
    host = settings.model_server.host
    if host in LOOPBACK_HOSTS or settings.models.token is not None:
        return None
    return f"PENTIMENTO_MODEL_SERVER__HOST is {host}: set PENTIMENTO_MODELS__TOKEN, or listen on 127.0.0.1"


def server_of(settings: Settings) -> TorchServe:
    """TorchServe as the settings want it, not started."""
    own = settings.model_server
    ports = ServerPorts(inference=own.inference_port, management=own.management_port, metrics=own.metrics_port)
    return TorchServe(
        own.folder,
        ports,
        model_store=own.store,
        models=(*JUDGES, EMBEDDER) if settings.embedder.enabled else JUDGES,
        model_api=own.model_api,
        batching=Batching(workers=own.workers),
    )


class Door:
    """What of TorchServe other machines reach. `token` None asks for none."""

    def __init__(self, server: TorchServe, token: str | None, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._token = token
        self._session = session

    def app(self) -> web.Application:
        """Predictions and `/ping`."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.add_routes([web.get("/ping", self._pass), web.post("/predictions/{path:.+}", self._pass)])
        return app

    def beside(self) -> web.Application:
        """Health and metrics; they ask for no token."""
        app = web.Application()
        routes = [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._told)]
        app.add_routes(routes)
        return app

    async def _pass(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if self._token is not None and not hmac.compare_digest(given, self._token.encode()):
            return web.json_response({"code": 401, "message": "the token is missing or wrong"}, status=401)
        headers = {"Authorization": f"Bearer {self._key()}"}
        if CONTENT_TYPE in request.headers:
            headers[CONTENT_TYPE] = request.headers[CONTENT_TYPE]
        body = await request.read() if request.can_read_body else None
        return await self._asked(request.method, f"{self._server.url}{request.rel_url.raw_path_qs}", headers, body)

    async def _asked(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> web.Response:
        try:
            async with self._session.request(method, url, data=body, headers=headers) as answer:
                kept = {CONTENT_TYPE: answer.headers.get(CONTENT_TYPE, "application/octet-stream")}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("torchserve_away", why=repr(error))
            return web.json_response({"code": 503, "message": "the model server is away"}, status=503)

    def _key(self) -> str:
        """The key of today's TorchServe; empty while it starts, which TorchServe then refuses."""
        try:
            return str(json.loads(self._server.key_file.read_text())["inference"]["key"])
        except (OSError, ValueError, LookupError):
            return ""

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"alive": self._server.running}, status=200 if self._server.running else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        try:
            await asyncio.to_thread(self._server.probe)
        except Unavailable as error:
            log.warning("not_ready", why=str(error))
            return web.json_response({"ready": False, "parts": {"torchserve": "away"}}, status=503)
        return web.json_response({"ready": True, "parts": {"torchserve": "ok"}})

    async def _told(self, _request: web.Request) -> web.Response:
        return await self._asked("GET", self._server.metrics_url, {}, None)


async def serve(settings: Settings, *, stop: asyncio.Event) -> int:
    """Serves until `stop` is set; 1 where TorchServe ends by itself. Raises Unavailable where it does not start, and
    OSError for a port that is taken."""
    server = server_of(settings)
    own, telemetry = settings.model_server, settings.telemetry
    token = settings.models.token.get_secret_value() if settings.models.token else None
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            # The client's deadline is what counts; TorchServe has its own `responseTimeout`.
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
        )
        door = Door(server, token, session)
        beside = await _listening(stack, door.beside(), telemetry.host, telemetry.port)
        stack.push_async_callback(asyncio.to_thread, server.stop)
        await asyncio.to_thread(server.spawn)
        await _until(lambda: _serves(server), stop)
        port = await _listening(stack, door.app(), own.host, own.port)
        log.info("started", host=own.host, port=port, health=beside, token=token is not None)
        while not stop.is_set():
            if not server.running:
                log.critical("failed", why=f"TorchServe ended with status {server.exit_status}: {server.log_tail()}")
                return EXIT_AWAY
            await _pause(stop)
        log.info("stopped")
    return 0


async def _serves(server: TorchServe) -> bool:
    try:
        await asyncio.to_thread(server.wait_ready, 2 * POLL_S)
    except Unavailable:
        if not server.running:
            raise
        return False
    return True


async def _until(holds: Callable[[], Awaitable[bool]], stop: asyncio.Event) -> None:
    while not stop.is_set() and not await holds():
        await _pause(stop)


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), POLL_S)
    except TimeoutError:
        return


async def _listening(stack: AsyncExitStack, app: web.Application, host: str, port: int) -> int:
    """Listens until the stack is closed; the port."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, shutdown_timeout=1.0).start()
    return int(runner.addresses[0][1])


async def _main(settings: Settings) -> int:
    telemetry = configure(settings.telemetry, service="pentimento-models")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        return await serve(settings, stop=stop)
    except (OSError, PentimentoError) as error:
        log.critical("failed", why=str(error))
        return EXIT_AWAY
    finally:
        telemetry.close()


def main() -> int:
    """Entry point. Exit status 2 where the settings must not be served, 1 where TorchServe or a port is away."""
    settings = load_settings()
    if (why := refusal(settings)) is not None:
        print(why, file=sys.stderr)
        return EXIT_CONFIGURATION
    return asyncio.run(_main(settings))


if __name__ == "__main__":
    sys.exit(main())
