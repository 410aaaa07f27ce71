"""Opens a sender of webhooks from the settings, for the web process and for the senders' own.

In: settings and an open database. Out: a `Sender`, whose fetcher is closed with the stack.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime

from services.clients.database import Database
from services.clients.deliveries import Deliveries
from services.opening import open_vault, open_webhook_fetcher
from services.settings import Settings
from services.telemetry import Telemetry
from services.webhooks.sender import Sender


def open_sender(database: Database, settings: Settings, telemetry: Telemetry, stack: AsyncExitStack) -> Sender:
    """What sends. Raises ValueError for a CA file or keys that cannot be used."""
    fetcher = open_webhook_fetcher(settings.webhooks)
    stack.push_async_callback(fetcher.close)
    return Sender(
        deliveries=Deliveries(database),
        fetcher=fetcher,
        vault=open_vault(settings.webhooks),
        settings=settings.webhooks,
        telemetry=telemetry,
        source=settings.source,
        now=lambda: datetime.now(UTC),
    )
