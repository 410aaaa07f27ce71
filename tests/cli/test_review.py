"""`pentimento review` on real PostgreSQL: old verdicts become cases, known answers are added, both are listed."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.core.events import Decision, Path, VerdictReached
from services.local.postgres import Postgres
from tests.cli.conftest import Pentimento
from tests.clients.examples import verdict


async def filled(dsn: str, *verdicts: VerdictReached) -> None:
    database = await Database.open(dsn, pool_size=1, timeout_s=30)
    await database.migrate()
    for each in verdicts:
        await Verdicts(database).project(each)
    await database.close()


def test_verdicts_from_before_become_cases_and_a_decided_one_a_known_answer(
    pentimento: Pentimento, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": f"cli_{uuid4().hex}"})
    monkeypatch.setenv("PENTIMENTO_POSTGRES__DSN", dsn)
    doubt = [
        verdict(f"u-{n}", word=f"w-{n}", decision=Decision.INCONCLUSIVE, against=None, minutes=n) for n in range(3)
    ]
    decided = doubt[0].model_copy(update={"revision": 1, "path": Path.REVIEWED, "decision": Decision.MANIPULATED})
    asyncio.run(filled(dsn, *doubt, decided))

    for _ in range(2):
        assert pentimento("review", "open", "--since", "2026-01-01", "--json").lines == [{"verdicts": 2}]
    listed = pentimento("review", "queue", "--tenant", "acme", "--json").lines
    assert {each["upload_id"] for each in listed} == {"u-1", "u-2"}
    assert [each["upload_id"] for each in pentimento("review", "queue", "-n", "1", "--json").lines] == ["u-1"]
    assert "inconclusive" in pentimento("review", "queue").stdout

    add = ("review", "honeypots", "add", "--answer", "manipulated", "--tenant", "acme")
    refused = pentimento(*add, "u-1")
    assert (refused.status, "No moderator has decided" in refused.stderr) == (1, True)
    [added] = pentimento(*add, "u-0", "--json").lines
    assert (added["upload_id"], added["revision"], added["shown"]) == ("u-0", 0, 0)
    assert pentimento("review", "honeypots", "retire", added["id"]).status == 0
    assert [each["retired"] for each in pentimento("review", "honeypots", "list", "--json").lines] == [True]
    noted = [each for each in pentimento("audit", "--json").lines if each["action"].startswith("honeypot_")]
    assert [(each["action"], each["details"]) for each in reversed(noted)] == [
        ("honeypot_added", {"honeypot": added["id"]}),
        ("honeypot_retired", {"honeypot": added["id"]}),
    ]
    assert all(each["subject"].startswith("cli/") for each in noted)
    [figures] = pentimento("review", "stats", "--json").lines
    assert [each["open"] for each in figures["waiting"]] == [2]
