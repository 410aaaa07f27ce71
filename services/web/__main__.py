"""`python -m services.web`: opens the parts from the settings and serves the app until SIGTERM or SIGINT.

Refuses to listen on anything but loopback without a token.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.models import Watch
from services.core.errors import PentimentoError
from services.finding import open_finder
from services.opening import (
    kafka_connection,
    open_database,
    open_models,
    open_objects,
    read_policy,
)
from services.settings import Settings, WebSettings, load_settings
from services.telemetry import Telemetry, configure
from services.web.app import create_app
from services.web.auth import refusal
from services.web.live import Feed
from services.web.opening import sign_in_options
from services.web.parts import Options, Parts, SignInOptions
from services.web.review.publishing import Publisher, publishing
from services.webhooks.opening import open_sender
from services.webhooks.sender import stop_sending

log = structlog.get_logger()
CONNECTIONS = 64  # at once, beside the live feed's; more are answered with 503 instead of piling up in memory
SHUTDOWN_S = 10
EXIT_AWAY = 1
EXIT_CONFIGURATION = 2


async def serve(settings: Settings, sign_in: SignInOptions) -> None:
    """Serves until a signal comes. Raises Unavailable where a part is away at the start, OSError for a taken port."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops by itself, then raises the signal once more: without this the parts would never be closed.
        loop.add_signal_handler(number, lambda: None)
    async with AsyncExitStack() as stack:
        telemetry = configure(settings.telemetry, service="pentimento-web")
        stack.callback(telemetry.close)
        database = await open_database(settings.postgres)
        stack.push_async_callback(database.close)
        await database.migrate()
        connection = kafka_connection(settings.kafka)
        sender = EventSender(connection, timeout_s=settings.kafka.request_timeout_s)
        await sender.start()
        stack.push_async_callback(sender.stop)
        objects = open_objects(settings.objects)
        stack.callback(objects.close)
        models = open_models(settings.models, Watch())
        stack.push_async_callback(models.close)
        parts = Parts(
            database=database,
            verdicts=Verdicts(database),
            objects=objects,
            sender=sender,
            reader=EventReader(connection, timeout_s=settings.kafka.request_timeout_s),
            telemetry=telemetry,
            now=lambda: datetime.now(UTC),
            seek=open_finder(settings, database, objects, stack).seek,
            models=models,
        )
        app = create_app(parts, _options(settings, sign_in))
        with _listener(settings.web) as listener:
            port = listener.getsockname()[1]
            log.info("started", host=settings.web.host, port=port, token=settings.web.token is not None)
            server = _server(app, settings.web.live_connections)
            publisher = Publisher(parts, settings.source)
            # Nobody would notice decisions that are never sent: without the publisher the server ends, too.
            await stack.enter_async_context(publishing(publisher, ended=lambda: setattr(server, "should_exit", True)))
            if settings.webhooks.in_web and settings.webhooks.keys:
                await _send_beside(server, database, settings, telemetry, stack)
            await server.serve(sockets=[listener])
        log.info("stopped")


async def _send_beside(
    server: uvicorn.Server, database: Database, settings: Settings, telemetry: Telemetry, stack: AsyncExitStack
) -> None:
    """Sends to webhooks until the stack is closed. Should that end by itself, the server ends, too."""
    sending = asyncio.create_task(open_sender(database, settings, telemetry, stack).run())
    sending.add_done_callback(lambda _: setattr(server, "should_exit", True))
    stack.push_async_callback(stop_sending, sending)


def _options(settings: Settings, sign_in: SignInOptions) -> Options:
    return Options(
        source=settings.source,
        max_bytes=settings.intake.max_bytes,
        max_pixels=settings.intake.max_pixels,
        token=settings.web.token.get_secret_value() if settings.web.token else None,
        live_connections=settings.web.live_connections,
        index_stale_s=settings.intake.index_stale_s,
        policy=read_policy(settings.policy),
        review=settings.review,
        sign_in=sign_in,
        limits=settings.limits,
        webhooks=settings.webhooks,
    )


def _listener(web: WebSettings) -> socket.socket:
    """A socket that listens already, so that port 0 has its number and nobody who waits for us is refused."""
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    return socket.create_server((web.host, web.port), family=family)


class _Server(uvicorn.Server):
    """Ends the live streams as soon as it is told to stop: they would otherwise hold it up until its patience ends."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        feed: Feed = self.config.app.state.feed  # type: ignore[union-attr]
        asyncio.get_running_loop().call_soon_threadsafe(feed.close)


def _server(app: FastAPI, live_connections: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,  # our own logging is set up already
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS + live_connections,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return _Server(config)


def main() -> int:
    """Entry point. Exit status 2 where the settings must not be served, 1 where a part or the port is away."""
    settings = load_settings()
    why = refusal(settings.web.host, has_token=settings.web.token is not None or settings.login.issuer is not None)
    if why is not None:
        print(why, file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        sign_in = sign_in_options(settings)
    except ValueError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        asyncio.run(serve(settings, sign_in))
    except (OSError, PentimentoError) as error:
        log.critical("failed", host=settings.web.host, port=settings.web.port, why=str(error))
        return EXIT_AWAY
    return 0


if __name__ == "__main__":
    sys.exit(main())
