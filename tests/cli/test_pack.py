"""`pentimento originals pack`: what it does, says, and leaves to whoever packs already."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.cli import app
from services.clients.database import Database
from services.clients.word_packing import LOCK
from services.local.postgres import Postgres
from tests.clients.conftest import dsn_of
from tests.clients.test_word_packing import fill


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    """A database with three originals whose words are not packed."""
    made = dsn_of(postgres, f"pack_{uuid4().hex}")
    asyncio.run(_filled(made))
    return made


def pack(dsn: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["originals", "pack", *words], env={"PENTIMENTO_POSTGRES__DSN": dsn})


async def _filled(dsn: str) -> None:
    database = await Database.open(dsn, pool_size=1)
    await database.migrate()
    await fill(database, 0, 3)
    await database.close()


def test_words_are_packed_and_counted_and_then_nothing_is_left_to_pack(dsn: str) -> None:
    first = pack(dsn)
    assert (first.exit_code, "180 words of 3 originals packed" in first.output) == (0, True)
    again = pack(dsn, "--json")
    assert json.loads(again.stdout.strip().splitlines()[-1]) == {"postings": 0, "originals": 0}


def test_beside_another_process_that_packs_it_says_so_and_does_nothing(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [LOCK])
        refused = pack(dsn)
        assert (refused.exit_code, "another process is packing" in refused.output) == (1, True)
        assert other.execute("select count(*) from visual_word").fetchone() == (180,)
