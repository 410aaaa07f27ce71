"""`python -m services.webhooks`: sends to webhooks from a process of its own, until SIGTERM or SIGINT.

For deployments where nothing else may reach the internet: `PENTIMENTO_WEBHOOKS__IN_WEB=false` then keeps the web
process from sending. As many of them as one likes.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

import structlog

from services.clients.database import Database
from services.core.errors import PentimentoError, Unavailable
from services.health import HealthServer
from services.opening import open_database
from services.settings import Settings, load_settings
from services.telemetry import Telemetry, configure
from services.webhooks.opening import open_sender
from services.webhooks.sender import stop_sending

log = structlog.get_logger()
EXIT_AWAY = 1
EXIT_CONFIGURATION = 2


async def serve(settings: Settings) -> None:
    """Sends until a signal comes. Raises Unavailable where the database is away at the start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        telemetry = configure(settings.telemetry, service="pentimento-webhooks")
        stack.callback(telemetry.close)
        database = await open_database(settings.postgres)
        stack.push_async_callback(database.close)
        await database.migrate()
        sender = open_sender(database, settings, telemetry, stack)
        port = await _health(database, settings, telemetry, stack)
        sending = asyncio.create_task(sender.run())
        stopping = asyncio.create_task(stop.wait())
        log.info("started", port=port)
        await asyncio.wait([sending, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await stop_sending(sending)
        log.info("stopped")


async def _health(database: Database, settings: Settings, telemetry: Telemetry, stack: AsyncExitStack) -> int:
    """The probes' and the metrics' endpoint; its port."""

    async def ready() -> dict[str, str | None]:
        try:
            await database.ping()
        except Unavailable as error:
            return {"postgres": str(error)}
        return {"postgres": None}

    host, port = settings.telemetry.host, settings.telemetry.port
    server = HealthServer(host, port, alive=lambda: None, ready=ready, registry=telemetry.metrics.registry)
    stack.push_async_callback(server.stop)
    return await server.start()


def main() -> int:
    """Entry point. Exit status 2 without a key for secrets, 1 where the database is away."""
    settings = load_settings()
    if not settings.webhooks.keys:
        print("PENTIMENTO_WEBHOOKS__KEYS is empty: no webhook's secret can be opened", file=sys.stderr)
        return EXIT_CONFIGURATION
    try:
        asyncio.run(serve(settings))
    except (OSError, PentimentoError) as error:
        log.critical("failed", why=str(error))
        return EXIT_AWAY
    return 0


if __name__ == "__main__":
    sys.exit(main())
