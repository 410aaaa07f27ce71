"""The database's schema, brought to this release by alembic's revisions (`migrations/versions`).

In: a libpq connection string. Out: the revisions that were applied; psycopg's errors as they are, which `Database`
maps. Everything here blocks. One process works at a time, the others wait and then find nothing to do.

Who waits must not hold a snapshot, since an index that is built concurrently waits for all of them: so the lock is
tried again and again, outside a transaction. It belongs to the connection that works, and goes with it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from services.core.errors import Broken, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection as AlchemyConnection

REVISIONS = ("0001", "0002", "0003", "0004")
"""Alembic's history, oldest first; a test holds the two together. Who has nothing to do never loads alembic."""

LEAST_PGVECTOR = (0, 8)  # the first with iterative index scans
LOCK = 0x70656E75  # advisory locks are numbers; this one is next to the one of releases before alembic
CREATING = 0x70656E74
PAUSE_S = 0.2
LOCK_TIMEOUT_S = 5
"""A table that is to be altered is waited for no longer: whoever queues behind the alteration waits as well."""

MIGRATIONS = Path(__file__).with_name("migrations")


def pending(found: str | None) -> tuple[str, ...]:
    """The revisions that a database lacks; none where a newer release went first, whose revisions we do not know."""
    if found is None:
        return REVISIONS
    return REVISIONS[REVISIONS.index(found) + 1 :] if found in REVISIONS else ()


def upgrade(dsn: str, options: dict[str, Any], *, timeout_s: float) -> tuple[str, ...]:
    """Create the database where that is possible and missing, pgvector, and apply what is pending. Safe to repeat.

    `timeout_s` is for waiting, not for working. Raises psycopg.Error, `Unavailable` where another process worked for
    longer, or `Broken` where the server refuses pgvector.
    """
    until = time.monotonic() + timeout_s
    with _connected(dsn, options) as connection, _locked(connection, until):
        _ensure_pgvector(connection)
        todo = pending(current(connection))
        if todo:
            _run(dsn, connection, until)
        return todo


def current(connection: psycopg.Connection[Any]) -> str | None:
    """The revision of a database, None where alembic was never there."""
    found = connection.execute("select to_regclass('alembic_version')").fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute("select version_num from alembic_version").fetchone()
    return None if row is None else str(row[0])


def script(found: str | None) -> str:
    """The SQL that `upgrade` would run on a database at this revision, for people who run it themselves."""
    todo = pending(found)
    if not todo:
        return ""
    from alembic import command

    text = io.StringIO()
    command.upgrade(_config(output_buffer=text), f"{found or 'base'}:{todo[-1]}", sql=True)
    return text.getvalue()


# -- what revisions are made of ---------------------------------------------------------------------------------------


def run_script(statements: str) -> None:
    """Run SQL as it stands, any number of statements, within the revision's transaction."""
    from alembic import context, op

    if context.is_offline_mode():
        op.execute(statements.replace(":", "\\:"))  # no parameters
    else:
        driver: Any = op.get_bind().connection.driver_connection
        driver.execute(statements)


def build_index(name: str, on: str) -> None:
    """Build an index (`on`: table, columns, condition) without keeping anybody from writing.

    It is outside of every transaction. What an attempt that was cut off left behind is invalid, and built anew.
    """
    from alembic import context, op

    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")  # it waits for others, and nobody for it
        if context.is_offline_mode() or _invalid(op.get_bind(), name):
            op.execute(f"drop index concurrently if exists {name}")
        op.execute(f"create index concurrently if not exists {name} on {on}".replace(":", "\\:"))
        op.execute(f"set lock_timeout = '{LOCK_TIMEOUT_S}s'")


def _invalid(connection: AlchemyConnection, name: str) -> bool:
    statement = "select 1 from pg_index where indexrelid = to_regclass(%(name)s) and not indisvalid"
    return connection.exec_driver_sql(statement, {"name": name}).first() is not None


# -- how they are run -------------------------------------------------------------------------------------------------


def _run(dsn: str, connection: psycopg.Connection[Any], until: float) -> None:
    """Every pending revision, on this connection, which has the lock. Tables in use are tried again."""
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    connection.execute(f"set lock_timeout = '{LOCK_TIMEOUT_S}s'")
    connection.autocommit = False
    while True:
        try:
            with engine.connect() as alchemy:
                command.upgrade(_config(connection=alchemy), REVISIONS[-1])
            return
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if not isinstance(cause, errors.LockNotAvailable) or time.monotonic() >= until:
                raise (cause if isinstance(cause, psycopg.Error) else error) from error
            time.sleep(PAUSE_S)


def _config(*, output_buffer: io.StringIO | None = None, connection: AlchemyConnection | None = None) -> Config:
    from alembic.config import Config

    config = Config(output_buffer=output_buffer)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked(connection: psycopg.Connection[Any], until: float) -> Iterator[None]:
    while not _answer(connection, "select pg_try_advisory_lock(%s)", LOCK):
        if time.monotonic() >= until:
            raise Unavailable("postgres", "another process has been bringing the schema up to date for too long")
        time.sleep(PAUSE_S)
    yield  # the connection closes next, and the lock goes with it


@contextmanager
def _connected(dsn: str, options: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    connection = _connect_or_create(dsn, options)
    try:
        yield connection
    finally:
        connection.close()


def _connect_or_create(dsn: str, options: dict[str, Any]) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(dsn, autocommit=True, **options)
    except psycopg.OperationalError as first:
        name = conninfo_to_dict(dsn).get("dbname")
        if not name:
            raise
        try:  # "no such database" comes without a code in the server's language, so look rather than parse
            maintenance = psycopg.connect(dsn, autocommit=True, **options, dbname="postgres")
        except psycopg.OperationalError:
            raise first from None
        with maintenance:
            _create_database(maintenance, str(name))
    return psycopg.connect(dsn, autocommit=True, **options)


def _create_database(maintenance: psycopg.Connection[Any], name: str) -> None:
    maintenance.execute("select pg_advisory_lock(%s)", [CREATING])  # held until this connection closes
    if maintenance.execute("select 1 from pg_database where datname = %s", [name]).fetchone() is None:
        with suppress(errors.DuplicateDatabase):
            maintenance.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


def _ensure_pgvector(connection: psycopg.Connection[Any]) -> None:
    try:
        connection.execute("create extension if not exists vector")
    except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFile) as error:
        raise Broken(
            f"pgvector cannot be set up ({' '.join(str(error).split())}): install it on the server, "
            "then have an administrator run `create extension vector` in this database"
        ) from error
    version = str(_answer(connection, "select extversion from pg_extension where extname = %s", "vector") or "0")
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_PGVECTOR:
        raise Broken(f"pgvector {version} is too old: run `alter extension vector update` to 0.8 or newer")


def _answer(connection: psycopg.Connection[Any], statement: str, value: object) -> Any:
    row = connection.execute(statement, [value]).fetchone()
    return None if row is None else row[0]
