"""Migrations: from nothing, from every release before, beside an old release, and when they fail."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg.types.json import Jsonb

from services.clients import migrating
from services.clients.candidates import Candidates, bits
from services.clients.database import Database
from services.clients.ledger import Ledger
from services.clients.preparation import PreparationQueue
from services.core.errors import Broken, Unavailable
from services.local.postgres import Postgres, programs_folder
from tests.clients.conftest import dsn_of
from tests.clients.examples import picture, verdict

VERSION_6 = (migrating.MIGRATIONS / "versions" / "0001_tables_of_version_6.sql").read_bytes()
NEWEST = migrating.REVISIONS[-1]

WHAT_AN_OLD_RELEASE_DOES_AT_ITS_START = """
select pg_advisory_xact_lock(1885695604);
create extension if not exists vector;
create table if not exists schema_version (version integer primary key, applied_at timestamptz default now());
"""
WHAT_AN_OLD_RELEASE_REGISTERS = """
with facts as (
    insert into content (sha256, object_key, size_bytes, width, height, format, pdq, pdq_quality, jpeg_quantisation)
    values (%(sha256)s, %(object_key)s, %(size_bytes)s, %(width)s, %(height)s, %(format)s, %(pdq)s, %(pdq_quality)s,
            %(tables)s)
)
insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality)
values ('acme', %(sha256)s, true, 'o-1', 'library', now(), %(bits)s::bit(256), %(pdq_quality)s)
"""
INVALID = "select indexrelid::regclass::text from pg_index where not indisvalid"
Connection = psycopg.AsyncConnection[Any]


async def created(dsn: str) -> Connection:
    """A connection to a database that is made for it."""
    server = dsn_of_server(dsn)
    async with await psycopg.AsyncConnection.connect(server, autocommit=True) as maintenance:
        await maintenance.execute(f'create database "{psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]}"'.encode())
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


def dsn_of_server(dsn: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, dbname="postgres")


async def left_by_an_old_release(dsn: str) -> Connection:
    """The database of a release from before alembic, as that release made it."""
    connection = await created(dsn)
    async with connection.transaction():
        await connection.execute(WHAT_AN_OLD_RELEASE_DOES_AT_ITS_START)
        await connection.execute(VERSION_6)
        await connection.execute("insert into schema_version (version) values (6)")
    return connection


async def opened(dsn: str) -> Database:
    return await Database.open(dsn, pool_size=2)


async def connected(dsn: str) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement.encode())).fetchall()


def schema_of(dsn: str) -> list[str]:
    """Everything that pg_dump says of a database's objects, but for the two tables that say which version it is."""
    command = [str(programs_folder() / "pg_dump"), "--schema-only", "--no-owner", dsn]
    ours = ["--exclude-table=alembic_version", "--exclude-table=schema_version"]
    text = subprocess.run([*command, *ours], check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--"))]


def test_alembic_has_one_line_of_revisions_which_is_the_one_that_processes_know() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    history = ScriptDirectory.from_config(config)
    assert history.get_heads() == [NEWEST]
    assert tuple(each.revision for each in reversed(list(history.walk_revisions()))) == migrating.REVISIONS


async def test_from_nothing_every_revision_is_applied_once(fresh_dsn: str) -> None:
    database = await opened(fresh_dsn)
    assert await database.migrate() == migrating.REVISIONS
    assert await database.migrate() == ()
    assert await database.revision() == NEWEST
    await database.close()


async def test_a_database_of_version_6_keeps_its_rows_and_gets_what_is_new(fresh_dsn: str) -> None:
    old = await left_by_an_old_release(fresh_dsn)
    database = await opened(fresh_dsn)
    registered, judged = picture("a"), verdict("u-1", word="a")
    look = registered.fingerprint
    facts = {**registered.image.model_dump(), "pdq": look.pdq, "pdq_quality": look.pdq_quality, "bits": bits(look.pdq)}
    await old.execute(WHAT_AN_OLD_RELEASE_REGISTERS, {**facts, "tables": Jsonb(look.jpeg_quantisation)})
    await Ledger(database).claim(judged)
    before = await rows(old, "select xmin, * from ledger")
    assert await database.revision() is None
    assert await database.migrate() == migrating.REVISIONS
    assert await Candidates(database).known(registered.image.sha256) == (registered.image, registered.fingerprint)
    assert await rows(old, "select xmin, * from ledger") == before
    assert await rows(old, "select version from schema_version") == [(6,)]
    assert await PreparationQueue(database).waiting() == (0, None)  # originals from before were prepared then
    await database.close()
    await old.close()


async def test_all_ways_to_the_newest_schema_lead_to_the_same_one_which_stands_in_schema_sql(
    postgres: Postgres,
) -> None:
    fresh, stepwise, read = (dsn_of(postgres, f"test_{uuid4().hex}") for _ in range(3))
    for dsn in (fresh, stepwise):
        if dsn == stepwise:
            await (await left_by_an_old_release(dsn)).close()
        database = await opened(dsn)
        await database.migrate()
        await database.close()
    async with await created(read) as connection:
        await connection.execute("create extension if not exists vector")
        await connection.execute(resources.files("services.clients").joinpath("schema.sql").read_bytes())
    assert schema_of(stepwise) == schema_of(fresh)
    assert schema_of(read) == schema_of(fresh)
    assert any("ledger_of_candidate" in line for line in schema_of(fresh))


async def test_a_database_that_a_newer_release_has_changed_is_left_as_it_is(fresh_dsn: str) -> None:
    database = await opened(fresh_dsn)
    await database.migrate()
    async with database.connection() as connection:
        await connection.execute("update alembic_version set version_num = '9999'")
    assert await database.migrate() == ()
    assert await database.revision() == "9999"
    await database.close()


@asynccontextmanager
async def building_behind_a_writer(dsn: str) -> AsyncIterator[tuple[asyncio.Task[tuple[str, ...]], Connection]]:
    """A migration of an old database that builds an index and waits for a writer's open transaction; and an observer,
    who sees that. The transaction ends with the block."""
    database = await opened(dsn)
    async with await left_by_an_old_release(dsn) as writer, await connected(dsn) as observer:
        async with writer.transaction():
            await writer.execute("update ledger set path = path")  # as a writer locks the table
            task = asyncio.create_task(database.migrate())
            waiting = "select 1 from pg_stat_progress_create_index where phase like 'waiting for writers%'"
            while not await rows(observer, waiting):
                assert not task.done()
            yield task, observer
        await asyncio.gather(task, return_exceptions=True)
    await database.close()


async def test_while_an_index_is_built_an_old_release_starts_and_writes_and_others_wait(fresh_dsn: str) -> None:
    async with building_behind_a_writer(fresh_dsn) as (first, _):
        waiting = [await opened(fresh_dsn) for _ in range(2)]
        others = [asyncio.create_task(database.migrate()) for database in waiting]
        async with await connected(fresh_dsn) as old_release, old_release.transaction():
            await old_release.execute(WHAT_AN_OLD_RELEASE_DOES_AT_ITS_START)
            assert await rows(old_release, "select max(version) from schema_version") == [(6,)]
        stored = await Ledger(waiting[0]).claim(verdict("u-2", word="b"))
        assert not first.done()
    assert await first == migrating.REVISIONS
    assert await asyncio.gather(*others) == [(), ()]
    assert await Ledger(waiting[0]).latest("acme", "u-2") == stored
    async with await connected(fresh_dsn) as after:
        assert await rows(after, INVALID) == []
    for database in waiting:
        await database.close()


async def test_an_index_whose_building_was_cut_off_is_built_anew(fresh_dsn: str) -> None:
    async with building_behind_a_writer(fresh_dsn) as (cut_off, observer):
        await observer.execute("select pg_cancel_backend(pid) from pg_stat_progress_create_index")
        with pytest.raises(Unavailable):
            await cut_off
    database = await opened(fresh_dsn)
    async with await connected(fresh_dsn) as after:
        assert await rows(after, INVALID) == [("ledger_of_candidate",)]
        assert await database.revision() == "0001"
        assert await database.migrate() == migrating.REVISIONS[1:]
        assert await rows(after, INVALID) == []
    await database.close()


async def test_a_revision_that_fails_leaves_nothing_of_itself(fresh_dsn: str) -> None:
    stranger = await created(fresh_dsn)
    await stranger.execute("create view kept_answer as select 1 as started_at")  # the last table of the script
    database = await opened(fresh_dsn)
    with pytest.raises(Broken, match="kept_answer"):
        await database.migrate()
    tables = "select relname from pg_class where relkind in ('r', 'p', 'i') and relnamespace = 'public'::regnamespace"
    assert {name for (name,) in await rows(stranger, tables)} <= {"alembic_version", "alembic_version_pkc"}
    assert await database.revision() is None
    await stranger.execute("drop view kept_answer")
    assert await database.migrate() == migrating.REVISIONS
    await database.close()
    await stranger.close()


async def test_a_table_that_somebody_keeps_is_waited_for_in_turns_and_nobody_behind_it_for_long(fresh_dsn: str) -> None:
    keeper = await left_by_an_old_release(fresh_dsn)
    await keeper.execute("delete from schema_version")  # a release before 6: its tables are gone through once more
    database = await opened(fresh_dsn)
    waits = (
        "select pid, query_start from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    async with keeper.transaction():
        await keeper.execute("lock table webhook in access exclusive mode")
        task = asyncio.create_task(database.migrate())
        seen: set[tuple[Any, ...]] = set()
        async with await connected(fresh_dsn) as observer:
            while len(seen) < 2:  # it gave up once, and came again
                assert not task.done()
                seen |= set(await rows(observer, waits))
    assert await task == migrating.REVISIONS
    await database.close()
    await keeper.close()


async def test_the_script_for_people_does_what_the_program_does(postgres: Postgres, tmp_path: Path) -> None:
    by_hand, by_program = (dsn_of(postgres, f"test_{uuid4().hex}") for _ in range(2))
    async with await created(by_hand) as connection:
        await connection.execute("create extension if not exists vector")
    (tmp_path / "next.sql").write_text(migrating.script(None))
    psql = [str(programs_folder() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    environment = {**os.environ, "PGOPTIONS": "--client-min-messages=warning"}
    command = [*psql, f"--file={tmp_path}/next.sql", by_hand]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    for dsn in (by_hand, by_program):
        database = await opened(dsn)
        assert await database.migrate() == (() if dsn == by_hand else migrating.REVISIONS)
        await database.close()
    assert schema_of(by_hand) == schema_of(by_program)
