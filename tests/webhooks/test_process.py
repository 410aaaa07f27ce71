"""The senders' own process, started as a deployment starts it, killed in the middle of its work, and started again."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.database import Database
from services.clients.webhooks import NewWebhook, Webhooks
from services.local.postgres import Postgres
from tests.programs import logged, program
from tests.webhooks.conftest import BOTH, KEY, Office
from tests.webhooks.receiver import Receiver

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine


process = partial(program, "services.webhooks")


async def test_kill_9_loses_nothing_and_repeats_at_most_what_was_in_flight(
    postgres: Postgres, receiver: Receiver, tmp_path: Path
) -> None:
    dsn = make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": "hooks_of_a_process"})
    database = await Database.open(dsn, pool_size=4, timeout_s=20)
    await database.migrate()
    office = Office(database, receiver, "acme")
    webhook, secret = await _registered_by_address(office)
    judged = [await office.judge(f"u-{number}") for number in range(30)]
    settings = {
        "POSTGRES__DSN": dsn,
        "WEBHOOKS__KEYS": json.dumps([KEY]),
        "WEBHOOKS__ALLOWED_HOSTS": '["localhost"]',
        "WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8", "::1/128"]',
        "WEBHOOKS__PORTS": f"[{receiver.port}]",
        "WEBHOOKS__ALLOW_HTTP": "true",
        "WEBHOOKS__TIMEOUT_S": "2",
        "WEBHOOKS__LEASE_S": "3",
        "WEBHOOKS__PER_WEBHOOK": "4",
        "WEBHOOKS__LOOK_S": "0.05",
    }
    before = 0
    async with process(tmp_path, **settings) as first:
        await receiver.until("/hook", 8)
        receiver.hanging["/hook"] = asyncio.Event()  # the next ones are in flight when it dies
        before = len(receiver.got)
        await receiver.until("/hook", before + 4)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    receiver.hanging.pop("/hook").set()
    async with process(tmp_path, **settings) as second:
        await logged(second, "started")
        for each in judged:
            assert (await office.settled(webhook, each)).state == "delivered"
        second.send_signal(signal.SIGTERM)
        await logged(second, "stopped")
        assert await second.wait() == 0
    times = Counter(each.id for each in receiver.got)
    assert set(times) == {each.event_id() for each in judged}
    repeated = sorted(count for count in times.values() if count > 1)
    assert repeated in ([2] * len(repeated), [])
    assert 1 <= len(repeated) <= 4
    assert all(each.verified(secret) for each in receiver.got)
    await database.close()


async def _registered_by_address(office: Office) -> tuple[str, str]:
    secret = "whsec_" + "QUJD" * 11
    new = NewWebhook("acme", f"http://localhost:{office.receiver.port}/hook", BOTH, None, "a test")
    await Webhooks(office.database).add("w-1", new, sealed=office.vault.seal(secret))
    return "w-1", secret


async def test_it_does_not_start_without_a_key(tmp_path: Path) -> None:
    async with process(tmp_path) as running:
        _, errors = await running.communicate()
    assert running.returncode == 2
    assert b"PENTIMENTO_WEBHOOKS__KEYS is empty" in errors


async def test_it_ends_with_the_reason_when_the_database_is_away(tmp_path: Path) -> None:
    settings = {"POSTGRES__DSN": "postgresql://127.0.0.1:1/none", "WEBHOOKS__KEYS": json.dumps([KEY])}
    async with process(tmp_path, **settings) as running:
        assert "PostgreSQL" in (await logged(running, "failed"))["why"]
        assert await running.wait() == 1
