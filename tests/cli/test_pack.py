"""`pentimento originals pack`: what it does, says, and leaves to whoever packs already."""

from __future__ import annotations

import asyncio
import json

import psycopg
from click.testing import Result
from typer.testing import CliRunner

from services.cli import app
from services.clients.database import Database
from services.clients.word_packing import LOCK
from tests.clients.test_word_packing import fill


def pack(dsn: str, *words: str) -> Result:
    return CliRunner().invoke(app, ["originals", "pack", *words], env={"PENTIMENTO_POSTGRES__DSN": dsn})


async def _filled(dsn: str) -> None:
    database = await Database.open(dsn, pool_size=1)
    await database.migrate()
    await fill(database, 0, 3)
    await database.close()


def test_words_are_packed_and_counted_and_then_nothing_is_left_to_pack(fresh_dsn: str) -> None:
    asyncio.run(_filled(fresh_dsn))
    first = pack(fresh_dsn)
    assert (first.exit_code, "180 words of 3 originals packed" in first.output) == (0, True)
    again = pack(fresh_dsn, "--json")
    assert json.loads(again.stdout.strip().splitlines()[-1]) == {"postings": 0, "originals": 0}


def test_beside_another_process_that_packs_it_says_so_and_does_nothing(fresh_dsn: str) -> None:
    asyncio.run(_filled(fresh_dsn))
    with psycopg.connect(fresh_dsn, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s)", [LOCK])
        refused = pack(fresh_dsn)
        assert (refused.exit_code, "another process is packing" in refused.output) == (1, True)
        assert other.execute("select count(*) from visual_word").fetchone() == (180,)
