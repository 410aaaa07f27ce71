"""Webhooks on the run's PostgreSQL, with a receiver on loopback and senders that may reach it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.deliveries import Deliveries
from services.clients.delivery_log import DeliveryLog, SeenDelivery
from services.clients.fetch import Fetcher
from services.clients.vault import Vault
from services.clients.webhooks import NewWebhook, Webhook, Webhooks
from services.core.events import Decision, Event, ReviewDecided, VerdictReached
from services.core.webhooks import EventKind, secret_from
from services.local.postgres import Postgres
from services.settings import TelemetrySettings, WebhookSettings
from services.telemetry import open_telemetry
from services.webhooks.sender import Sender, stop_sending
from tests.clients.examples import verdict
from tests.webhooks.receiver import Receiver, receiving

KEY = Fernet.generate_key().decode()
BOTH = (EventKind.VERDICT, EventKind.REVIEW)
QUICK: dict[str, Any] = {
    "keys": (SecretStr(KEY),),
    "timeout_s": 20,
    "lease_s": 60,
    "look_s": 0.02,
    "retry_first_s": 0.02,
    "retry_longest_s": 0.1,
}


@pytest.fixture(scope="session")
def hooks_dsn(postgres: Postgres) -> str:
    return make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": f"hooks_{uuid4().hex}"})


@pytest.fixture(scope="session")
async def hooks_database(hooks_dsn: str) -> AsyncIterator[Database]:
    opened = await Database.open(hooks_dsn, pool_size=12, timeout_s=20)
    await opened.migrate()
    yield opened
    await opened.close()


@dataclass
class Office:
    """Registers webhooks, projects events, and starts senders, all for one tenant."""

    database: Database
    receiver: Receiver
    tenant: str

    def __post_init__(self) -> None:
        self.webhooks = Webhooks(self.database)
        self.log = DeliveryLog(self.database)
        self.vault = Vault([KEY])

    async def register(
        self,
        path: str = "/hook",
        *,
        kinds: tuple[EventKind, ...] = BOTH,
        decisions: tuple[Decision, ...] | None = None,
        url: str | None = None,
    ) -> tuple[str, str]:
        """A webhook's id and secret."""
        webhook_id, secret = uuid4().hex, secret_from(uuid4().bytes * 2)
        new = NewWebhook(self.tenant, url or self.receiver.url(path), kinds, decisions, "a test")
        await self.webhooks.add(webhook_id, new, sealed=self.vault.seal(secret))
        return webhook_id, secret

    async def webhook(self, webhook_id: str) -> Webhook:
        (found,) = await self.webhooks.find(webhook_id=webhook_id)
        return found

    async def judge(self, upload_id: str, **changes: Any) -> VerdictReached:
        """A verdict that is reached now, projected."""
        made = verdict(upload_id, tenant=self.tenant, **changes)
        made = made.model_copy(update={"judged_at": datetime.now(UTC)})
        await Verdicts(self.database).project(made)
        return made

    async def decide(self, upload_id: str, decision: Any = Decision.MANIPULATED) -> ReviewDecided:
        """A moderator's decision, projected."""
        made = ReviewDecided(
            decision_id=uuid4().hex,
            upload_id=upload_id,
            tenant=self.tenant,
            of_revision=0,
            moderator="ada",
            decision=decision,
            decided_at=datetime.now(UTC),
        )
        await Verdicts(self.database).record_review(made)
        return made

    async def settled(self, webhook_id: str, event: Event | int) -> SeenDelivery:
        """The delivery of an event, or with a number, once it is not queued any more."""
        async with asyncio.timeout(30):
            while True:
                for each in await self.log.deliveries(webhook_id, limit=500):
                    mine = each.id == event if isinstance(event, int) else each.event_id == event.event_id()
                    if mine and each.state != "queued":
                        return each
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def sending(self, count: int = 1, **changes: Any) -> AsyncIterator[None]:
        """So many senders side by side."""
        settings = WebhookSettings(**{**QUICK, **changes})
        async with AsyncExitStack() as stack:
            for _ in range(count):
                fetcher = fetcher_to(self.receiver, timeout_s=settings.timeout_s)
                fetcher.setting = "webhooks.allowed_hosts"
                stack.push_async_callback(fetcher.close)
                sender = Sender(
                    deliveries=Deliveries(self.database),
                    fetcher=fetcher,
                    vault=self.vault,
                    settings=settings,
                    telemetry=open_telemetry(TelemetrySettings(), "pentimento-test"),
                    source="/test",
                    now=lambda: datetime.now(UTC),
                )
                stack.push_async_callback(stop_sending, asyncio.create_task(sender.run()))
            yield


def fetcher_to(receiver: Receiver, *, timeout_s: float, **changes: Any) -> Fetcher:
    """One that may reach the test's receiver and nothing else that is private."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host != "inside.example" else ["10.0.0.7"]

    arguments: dict[str, Any] = {
        "allowed_hosts": ("receiver.example", "inside.example"),
        "max_bytes": 0,
        "timeout_s": timeout_s,
        "allow_http": True,
        "ports": (receiver.port,),
        "allowed_networks": ("127.0.0.0/8",),
        "resolver": resolve,
    }
    return Fetcher(**{**arguments, **changes})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


@pytest.fixture
async def office(hooks_database: Database, receiver: Receiver) -> AsyncIterator[Office]:
    made = Office(hooks_database, receiver, f"tenant-{uuid4().hex[:12]}")
    yield made
    for webhook in await made.webhooks.find(tenants=[made.tenant], limit=500):
        await made.webhooks.remove(webhook.id)  # so that no other test's sender looks at it
