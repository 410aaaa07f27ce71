"""The database under the clients: its schema, its deadline, its error map, and its server going away and returning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.candidates import Candidates
from services.clients.database import Database, translated
from services.clients.late import LateQueue
from services.clients.ledger import Ledger
from services.clients.migrating import REVISIONS
from services.core.errors import Broken, Unavailable
from services.core.events import Path
from services.local.postgres import Postgres
from tests.clients.examples import picture, sha256_of, verdict


async def test_processes_that_start_together_make_the_database_once(fresh_dsn: str) -> None:
    processes = [await Database.open(fresh_dsn, pool_size=1) for _ in range(4)]
    applied = await asyncio.gather(*(process.migrate() for process in processes))
    assert sorted(applied) == [(), (), (), REVISIONS]
    for process in processes:
        await process.close()


async def test_the_schema_applies_to_its_own_earlier_version_and_keeps_the_rows(database: Database) -> None:
    registered = picture("a")
    await Candidates(database).register(registered)
    async with database.connection() as connection:
        await connection.execute("delete from schema_version")  # so that all of it is applied once more
        await connection.execute("drop table alembic_version")
    await database.migrate()
    assert await Candidates(database).known(registered.image.sha256) == (registered.image, registered.fingerprint)


async def test_a_database_of_version_2_gets_its_uploads_and_everything_new(fresh_dsn: str) -> None:
    """What version 3 added is taken away again, so that what stands there is what version 2 left."""
    database = await Database.open(fresh_dsn, pool_size=1)
    await database.migrate()
    await Candidates(database).register(picture("a", original_id="u-1"))
    for upload, path in (("u-1", Path.UNCONSTRAINED), ("u-2", Path.REUSED), ("u-3", Path.REJECTED)):
        await Ledger(database).claim(verdict(upload, word="a", path=path, against=None, filename="odd \x00 name"))
    async with database.connection() as connection:
        await connection.execute("alter table candidate drop column stopped_by")
        await connection.execute(
            "drop table upload, late, late_cut, late_pace, late_tenant, stop_entry, embedding, embedder, annotation, "
            "unprepared, visual_word, worded, word_space, model_version, promotion, shadow, rejudge, rejudge_run, "
            "dataset_sample, dataset_shard, dataset_version, sample, sample_picture, sample_group, erasure, round, "
            "person, api_token, web_session, sign_in_ticket, sign_in_flow, sign_in_failure, audit, audit_upload, "
            "webhook_attempt, webhook_delivery, webhook, kept_answer, "
            "review_person, review_honeypot, review_mask, review_outcome, review_decision, review_note, review_claim, "
            "review_member, review_case"
        )
        await connection.execute("drop table alembic_version")
        await connection.execute("update schema_version set version = 2")
    await database.migrate()
    async with database.connection() as connection:
        versions = await (await connection.execute("select version from schema_version order by version")).fetchall()
        uploads = await (await connection.execute("select * from upload order by upload_id")).fetchall()
        indexes = await (await connection.execute("select indexname from pg_indexes")).fetchall()
    assert [row["version"] for row in versions] == [2, 6]
    assert [(row["tenant"], row["upload_id"]) for row in uploads] == [("acme", "u-1"), ("acme", "u-2")]
    assert {row["sha256"] for row in uploads} == {sha256_of("a")}
    assert {"candidate_stopped_pdq", "candidate_upload_pdq", "late_due"} <= {row["indexname"] for row in indexes}
    queued = await LateQueue(database).add(picture("o", trusted=True), max_distance=90, ways=1, at_most=10)
    assert queued.uploads == 2  # uploads from before the migration, the duplicate among them
    await database.close()


async def test_a_statement_beyond_the_deadline_is_unavailable_and_the_next_one_works(postgres: Postgres) -> None:
    database = await Database.open(postgres.dsn, pool_size=1, timeout_s=4)
    with pytest.raises(Unavailable, match="statement timeout"):
        async with database.connection() as connection:
            await connection.execute("select pg_sleep(30)")
    async with database.connection() as connection:
        assert await (await connection.execute("select 1 as one")).fetchone() == {"one": 1}
    await database.close()


async def test_a_pool_that_is_used_up_is_unavailable(postgres: Postgres) -> None:
    database = await Database.open(postgres.dsn, pool_size=1, timeout_s=1)
    with pytest.raises(Unavailable, match="busy"):
        async with database.connection(), database.connection():
            pytest.fail("the pool has one connection only")
    await database.close()


async def test_a_closed_database_is_unavailable(postgres: Postgres) -> None:
    database = await Database.open(postgres.dsn)
    await database.close()
    with pytest.raises(Unavailable):
        await Candidates(database).index_version()


async def test_a_missing_table_is_broken(database: Database) -> None:
    with pytest.raises(Broken, match="42P01"):
        async with database.connection() as connection:
            await connection.execute("select * from no_such_table")


async def test_a_wrong_password_is_unavailable_and_not_repeated_in_the_message(postgres: Postgres) -> None:
    dsn = make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "password": "not-the-password"})
    database = await Database.open(dsn, timeout_s=2)
    with pytest.raises(Unavailable) as caught:
        await database.migrate()
    assert "not-the-password" not in str(caught.value)
    await database.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.SerializationFailure(), Unavailable),
        (errors.DeadlockDetected(), Unavailable),
        (errors.TooManyConnections(), Unavailable),
        (errors.DiskFull(), Unavailable),
        (errors.AdminShutdown(), Unavailable),
        (errors.ReadOnlySqlTransaction(), Unavailable),
        (psycopg.OperationalError("the connection is lost"), Unavailable),
        (errors.ProgramLimitExceeded(), Broken),
        (errors.UniqueViolation(), Broken),
        (errors.UndefinedColumn(), Broken),
        (psycopg.DataError("text fields cannot contain NUL"), Broken),
        (psycopg.InterfaceError(), Broken),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, psycopg.Error) else "",
)
def test_errors_that_pass_are_unavailable_and_the_others_broken(error: psycopg.Error, expected: type) -> None:
    assert type(translated(error)) is expected


@pytest.fixture(scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("mortal-postgres"))
    yield server
    await asyncio.to_thread(server.kill)


@pytest.fixture
async def own_server(mortal: Postgres) -> Postgres:
    """A PostgreSQL, running, that the test may kill."""
    if not mortal.running:
        await asyncio.to_thread(mortal.start)
    return mortal


async def test_calls_fail_while_the_server_is_away_and_work_when_it_is_back(own_server: Postgres) -> None:
    database = await Database.open(own_server.dsn, pool_size=4, timeout_s=2)
    await database.migrate()
    candidates = Candidates(database)
    await asyncio.gather(*(candidates.index_version() for _ in range(8)))  # several connections to lose

    await asyncio.to_thread(own_server.kill)
    for _ in range(3):
        outcomes = await asyncio.gather(*(candidates.index_version() for _ in range(8)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 8

    await asyncio.to_thread(own_server.start)
    assert await asyncio.gather(*(candidates.index_version() for _ in range(8))) == ["pdq-1/0"] * 8
    await database.close()


async def test_a_call_under_way_when_the_server_dies_is_unavailable(own_server: Postgres) -> None:
    database = await Database.open(own_server.dsn, pool_size=2, timeout_s=20)
    await database.migrate()

    async def wait_in_the_server() -> None:
        async with database.connection() as connection:
            await connection.execute("select pg_advisory_lock(1)")
            async with database.connection() as other:
                await other.execute("select pg_advisory_lock(1)")

    waiting = asyncio.create_task(wait_in_the_server())
    async with await psycopg.AsyncConnection.connect(own_server.dsn, autocommit=True) as observer:
        blocked = "select 1 from pg_locks where locktype = 'advisory' and not granted"
        while await (await observer.execute(blocked)).fetchone() is None:
            assert not waiting.done()
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(Unavailable):
        await waiting
    await database.close()
