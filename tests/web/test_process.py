"""The web process itself: `python -m services.web`, started as the stack starts it."""

from __future__ import annotations

import json
import signal
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.review_cases import ReviewCases
from services.clients.review_claims import LockRules, ReviewClaims
from services.clients.review_decisions import Request, ReviewDecisions
from services.clients.review_queue import CaseFilter
from services.clients.review_rows import Decided
from services.core import topology
from services.core.access import Person, Role
from services.core.envelope import decode
from services.core.events import Decision, ReviewDecided
from services.core.policy import DEFAULT_POLICY
from services.core.review.cases import need
from services.core.review.decisions import Word
from services.local.kafka import Kafka
from services.local.postgres import Postgres
from services.web.parts import Parts
from tests.programs import logged, program
from tests.web.conftest import NOON, TOKEN, Gallery, photo
from tests.webhooks.receiver import receiving

process = partial(program, "services.web")


async def test_it_serves_what_the_settings_say_and_stops_on_sigterm(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "POSTGRES__DSN": postgres.dsn,
        "OBJECTS__URL": (tmp_path / "objects").as_uri(),
        "WEB__PORT": "0",
        "WEB__TOKEN": TOKEN,
    }
    async with process(tmp_path, **settings) as running:
        started = await logged(running, "started")
        base, bearer = f"http://127.0.0.1:{started['port']}", {"authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            assert (await client.get("/readyz")).json()["ready"] is True
            assert (await client.get("/api/v1/verdicts")).status_code == 401
            accepted = await client.post("/api/v1/uploads", files={"image": ("a.jpg", photo(91))}, headers=bearer)
            assert accepted.status_code == 202
            assert "server" not in accepted.headers
        running.send_signal(signal.SIGTERM)
        await logged(running, "stopped")
        assert await running.wait() == 0


async def test_told_to_stop_it_ends_the_live_streams_and_waits_for_no_browser(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "POSTGRES__DSN": postgres.dsn,
        "OBJECTS__URL": (tmp_path / "objects").as_uri(),
        "WEB__PORT": "0",
    }
    async with process(tmp_path, **settings) as running:
        started = await logged(running, "started")
        address = f"http://127.0.0.1:{started['port']}/api/v1/verdicts/live"
        async with httpx.AsyncClient(timeout=60) as client, client.stream("GET", address) as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "retry: 3000"
            running.send_signal(signal.SIGTERM)
            assert [line async for line in lines if line and not line.startswith(":")] == []  # it ends, whole
        await logged(running, "stopped")
        assert await running.wait() == 0


async def test_it_sends_to_webhooks_beside(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    async with receiving() as receiver:
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "POSTGRES__DSN": postgres.dsn,
            "OBJECTS__URL": (tmp_path / "objects").as_uri(),
            "WEB__PORT": "0",
            "WEBHOOKS__KEYS": json.dumps([Fernet.generate_key().decode()]),
            "WEBHOOKS__ALLOWED_HOSTS": '["localhost"]',
            "WEBHOOKS__ALLOWED_NETWORKS": '["127.0.0.0/8", "::1/128"]',
            "WEBHOOKS__PORTS": f"[{receiver.port}]",
            "WEBHOOKS__ALLOW_HTTP": "true",
        }
        async with process(tmp_path, **settings) as running:
            base = f"http://127.0.0.1:{(await logged(running, 'started'))['port']}"
            async with httpx.AsyncClient(base_url=f"{base}/api/v1", timeout=60) as client:
                url = f"http://localhost:{receiver.port}/hook"
                made = (await client.post("/webhooks", json={"url": url})).json()
                await client.post(f"/webhooks/{made['id']}/test")
                (ping,) = await receiver.until("/hook", 1)
                assert ping.verified(made["secret"])
            running.send_signal(signal.SIGTERM)
            await logged(running, "stopped")
            assert await running.wait() == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_it_refuses_to_listen_beyond_loopback_without_a_token(tmp_path: Path, host: str) -> None:
    async with process(tmp_path, WEB__HOST=host) as running:
        output, errors = await running.communicate()
    assert running.returncode == 2
    assert b"set PENTIMENTO_WEB__TOKEN" in errors
    assert output == b""


async def test_it_ends_with_the_reason_when_a_part_is_away(tmp_path: Path) -> None:
    settings = {"POSTGRES__DSN": "postgresql://127.0.0.1:1/none", "OBJECTS__URL": (tmp_path / "objects").as_uri()}
    async with process(tmp_path, **settings) as running:
        assert "PostgreSQL" in (await logged(running, "failed"))["why"]
        assert await running.wait() == 1


async def test_a_decision_that_was_due_while_no_process_ran_is_sent_by_the_next_one(
    kafka: Kafka, postgres: Postgres, parts: Parts, gallery: Gallery, tmp_path: Path
) -> None:
    ann = Person("ann", "Ann", Role.MODERATOR, frozenset({gallery.tenant}))
    doubt = (await gallery.no_evidence("u-1", 7)).model_copy(update={"decision": Decision.INCONCLUSIVE})
    await ReviewCases(parts.database).follow(doubt, need(doubt, DEFAULT_POLICY), now=NOON)
    rules = LockRules(timedelta(minutes=5), timedelta(hours=1))
    case_id = await ReviewClaims(parts.database, rules).next(ann, CaseFilter(), now=NOON)
    assert case_id is not None
    word = Request(Word("no_evidence"), None, None, None, None, None, "")
    decisions = ReviewDecisions(parts.database, second_share=0.0)
    said = await decisions.decide(ann, case_id, word, now=NOON, publish_at=NOON + timedelta(seconds=10))
    assert isinstance(said, Decided)

    dsn = make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": await _name(parts)})
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "POSTGRES__DSN": dsn,
        "OBJECTS__URL": (tmp_path / "objects").as_uri(),
        "WEB__PORT": "0",
        "WEB__TOKEN": TOKEN,
    }
    async with process(tmp_path, **settings) as running, aclosing(parts.reader.read(topology.REVIEWS)) as arriving:
        await logged(running, "reviews_sent")
        async for message in arriving:
            event = decode(message, ReviewDecided)
            if event.tenant == gallery.tenant:
                break
    assert (event.upload_id, event.decision, event.moderator) == ("u-1", Decision.NO_EVIDENCE, "ann")


async def _name(parts: Parts) -> str:
    async with parts.database.connection() as connection:
        row = await (await connection.execute("select current_database() as name")).fetchone()
    assert row is not None
    return str(row["name"])
