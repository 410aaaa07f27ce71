"""The embedded database, for real."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services.core.errors import Unavailable
from services.local import leash
from services.local.postgres import Postgres
from tests.local.processes import LOOPBACK_ADDRESSES, alive, eventually, listening_addresses


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One that this module may stop and kill."""
    own = Postgres(tmp_path_factory.mktemp("database"))
    own.start()
    yield own
    own.stop()


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[call-overload]
        return row[0] if row else None


def test_vectors_of_bits_are_found_by_hamming_distance(database: Postgres) -> None:
    with psycopg.connect(database.dsn) as connection:
        connection.execute("create extension if not exists vector")  # the schema step of the clients says this
        connection.execute("create temp table hash (id int, pdq bit(256))")
        connection.execute("create index on hash using hnsw (pdq bit_hamming_ops)")
        connection.execute("insert into hash values (1, repeat('1', 256)::bit(256)), (2, repeat('01', 128)::bit(256))")
        nearest = connection.execute("select id from hash order by pdq <~> repeat('0', 256)::bit(256) limit 1")
        assert nearest.fetchone() == (2,)


def test_the_role_of_the_services_is_no_superuser_but_may_make_databases(database: Postgres) -> None:
    assert ask(database.dsn, "select rolsuper or rolcreaterole from pg_roles where rolname = current_user") is False
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("create database of_a_test")
    other = database.dsn.rpartition("/")[0] + "/of_a_test"
    assert ask(other, "select extname from pg_extension where extname = 'vector'") == "vector"


def test_nobody_comes_in_without_the_password(database: Postgres) -> None:
    password = (database.data_dir / "pentimento.password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(database.dsn.replace(password, "guess"))
    rules = (database.data_dir / "cluster" / "pg_hba.conf").read_text().splitlines()
    assert {rule.split()[-1] for rule in rules if rule and not rule.startswith("#")} == {"scram-sha-256"}


def test_passwords_are_readable_by_their_owner_alone(database: Postgres) -> None:
    for file in database.data_dir.glob("*.password"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(list(database.data_dir.glob("*.password"))) == 2


def test_it_listens_on_the_loopback_address_alone_and_does_not_run_as_root(database: Postgres) -> None:
    assert database.pid is not None
    addresses = listening_addresses(database.pid)
    assert addresses
    assert addresses <= LOOPBACK_ADDRESSES
    assert Path(f"/proc/{database.pid}").stat().st_uid != 0


def test_rows_survive_a_kill_and_the_address_stays(database: Postgres) -> None:
    before = database.dsn
    with psycopg.connect(database.dsn) as connection:
        connection.execute("create table kept as select 42 as answer")
    database.kill()
    assert not database.healthy
    database.start()
    assert database.dsn == before
    assert ask(database.dsn, "select answer from kept") == 42


def test_a_crash_of_the_server_takes_its_helpers_with_it(database: Postgres) -> None:
    assert database.pid is not None
    helpers = leash.descendants(database.pid)
    assert helpers
    os.kill(database.pid, signal.SIGKILL)
    assert database.wait(10)
    eventually(lambda: not any(alive(helper) for helper in helpers))
    database.start()


def test_a_stop_does_not_wait_for_clients(database: Postgres) -> None:
    client = psycopg.connect(database.dsn)
    client.execute("select 1")
    assert database.stop()
    client.close()
    database.start()


def test_an_attempt_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "workshop" / "cluster").mkdir(parents=True)
    (tmp_path / "workshop" / "cluster" / "PG_VERSION").write_text("18\n")
    fresh = Postgres(tmp_path)
    fresh.start()
    assert ask(fresh.dsn, "select 1") == 1
    fresh.stop()


def test_a_broken_cluster_is_unavailable_and_the_log_says_why(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with pytest.raises(Unavailable, match="postgres ended with status"):
        Postgres(tmp_path).start()
