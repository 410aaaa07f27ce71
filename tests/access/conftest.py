"""The web app on real PostgreSQL, with a clock that tests set, and people who sign in. No Kafka: nothing here sends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from services.clients.accounts import Account, People
from services.clients.audit import AuditFilter, Entry
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender, KafkaConnection
from services.clients.objects import Objects
from services.clients.signins import SignIns
from services.clients.tokens import Tokens
from services.core.access import Grant, Role
from services.local.postgres import Postgres
from services.settings import TelemetrySettings
from services.telemetry import Telemetry, open_telemetry
from services.web.app import create_app
from services.web.parts import Options, Parts, SignInOptions
from tests.clients.conftest import dsn_of
from tests.web.conftest import Gallery, calling

PAGE = {"accept": "text/html"}
WEB_TOKEN = "a-token-that-is-long-enough"
OPTIONS = Options(
    source="/test",
    max_bytes=200_000,
    max_pixels=4_000_000,
    token=WEB_TOKEN,
    sign_in=SignInOptions(attempts=3),
)
SENDS_NOTHING = KafkaConnection("127.0.0.1:1")


@dataclass
class Clock:
    """The time that the app believes in."""

    moment: datetime

    def now(self) -> datetime:
        return self.moment

    def later(self, **by: float) -> None:
        self.moment += timedelta(**by)


@dataclass(frozen=True)
class House:
    """An app, its clock, and ways to come in."""

    parts: Parts
    app: FastAPI
    clock: Clock

    async def account(self, role: Role, *tenants: str, name: str = "") -> Account:
        """Somebody new; without tenants: of all of them."""
        subject = f"p-{uuid4().hex[:12]}"
        account = Account(subject, name or subject, None, role, frozenset(tenants) if tenants else None)
        assert await People(self.parts.database).add(account)
        return account

    async def ticket(self, account: Account) -> str:
        return await SignIns(self.parts.database).invite(account.subject, self.clock.now())

    @asynccontextmanager
    async def signed_in(self, account: Account) -> AsyncIterator[httpx.AsyncClient]:
        """A browser that came by a one-time link. Its unsafe requests carry the session's token."""
        async with self.calling() as browser:
            entered = await browser.post("/enter", data={"ticket": await self.ticket(account)})
            assert entered.status_code == 303
            browser.headers["x-csrf-token"] = csrf_in((await browser.get("/account", headers=PAGE)).text)
            yield browser

    async def bearer(self, role: Role, *tenants: str) -> dict[str, str]:
        """Headers of a program with a new token."""
        grant = Grant(role, frozenset(tenants) if tenants else None)
        secret, _ = await Tokens(self.parts.database).create(
            f"a {role.value}", grant, owner=None, now=self.clock.now(), expires_at=None
        )
        return {"authorization": f"Bearer {secret}"}

    def calling(self) -> httpx.AsyncClient:
        return calling(self.app)

    async def logged(self, **asked: str) -> list[Entry]:
        """Entries of the audit log, newest first."""
        return await self.parts.audit.find(AuditFilter(**asked))  # type: ignore[arg-type]


def csrf_in(page: str) -> str:
    """The token in the head of a page."""
    found = re.search(r'<meta name="csrf-token" content="([0-9a-f]{64})">', page)
    assert found is not None
    return found.group(1)


@asynccontextmanager
async def migrated(dsn: str) -> AsyncIterator[Database]:
    """A database with our tables, for as long as the block lasts."""
    opened = await Database.open(dsn, pool_size=4, timeout_s=20)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def access_dsn(postgres: Postgres) -> str:
    return dsn_of(postgres, f"access_{uuid4().hex}")


@pytest.fixture(scope="session")
async def access_database(access_dsn: str) -> AsyncIterator[Database]:
    async with migrated(access_dsn) as opened:
        yield opened


@pytest.fixture(scope="session")
def access_telemetry() -> Telemetry:
    return open_telemetry(TelemetrySettings(), "pentimento-access-test")


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return Objects(tmp_path_factory.mktemp("objects").as_uri())


@pytest.fixture
def house(access_database: Database, access_telemetry: Telemetry, objects: Objects) -> House:
    """With the web token set, and every address forgiven what it did in an earlier test: the clock is past it."""
    return house_with(OPTIONS, access_database, access_telemetry, objects)


@pytest.fixture
def open_house(access_database: Database, access_telemetry: Telemetry, objects: Objects) -> House:
    """As `pentimento up` starts it: no token, no provider."""
    return house_with(replace(OPTIONS, token=None), access_database, access_telemetry, objects)


_EPOCH = [datetime(2026, 11, 22, 12, 0, tzinfo=UTC)]


def house_with(options: Options, database: Database, telemetry: Telemetry, objects: Objects) -> House:
    """An app of its own, days after the one before."""
    _EPOCH[0] += timedelta(days=3)
    clock = Clock(_EPOCH[0])
    parts = Parts(
        database=database,
        verdicts=Verdicts(database),
        objects=objects,
        sender=EventSender(SENDS_NOTHING),
        reader=EventReader(SENDS_NOTHING, timeout_s=1),
        telemetry=telemetry,
        now=clock.now,
    )
    return House(parts, create_app(parts, options), clock)


@pytest.fixture
def gallery(house: House) -> Gallery:
    """A tenant of its own for each test."""
    return Gallery(house.parts, f"tenant-{uuid4().hex[:12]}")
