"""PostgreSQL: one pool of connections a process, its deadlines, its error map and its schema.

In: a libpq connection string. Out: connections for the clients in this folder, and nothing but `Unavailable` or
`Broken` when something goes wrong. It exists so that no other file knows what a lost server looks like.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from services.core.errors import Broken, PentimentoError, Unavailable

SCHEMA_VERSION = 6
LEAST_PGVECTOR = (0, 8)  # the first with iterative index scans
MIGRATION_TIMEOUT_S = 600.0  # building an index over existing pictures takes minutes
MIGRATION_LOCK = 0x70656E74  # advisory locks are numbers; this one spells "pent"

Connection = AsyncConnection[DictRow]

# Failures that pass by themselves although psycopg does not count them as operational ...
_PASSING = (errors.ReadOnlySqlTransaction,)  # a failover left us on a standby
# ... and operational ones that would come back for ever.
_LASTING = (errors.ProgramLimitExceeded, errors.InvalidAuthorizationSpecification)


class Database:
    """A pool of connections to one database. Every connection is in autocommit mode and answers rows as dicts."""

    def __init__(self, pool: AsyncConnectionPool[Connection], dsn: str, timeout_s: float) -> None:
        self._pool = pool
        self._dsn = dsn
        self._timeout_s = timeout_s

    @classmethod
    async def open(cls, dsn: str, *, pool_size: int = 8, timeout_s: float = 10.0) -> Self:
        """A pool of at most `pool_size` connections, made when needed: the server need not be there yet.

        `timeout_s` is the deadline of one use of a connection, waiting for it included.
        """
        pool = AsyncConnectionPool(
            dsn,
            connection_class=Connection,
            kwargs={"autocommit": True, "row_factory": dict_row, **_connect_options(timeout_s)},
            min_size=0,
            max_size=pool_size,
            timeout=timeout_s,
            # A pool that backs off for minutes would miss the server's return; giving up resets the back-off, and the
            # next caller starts a fresh attempt.
            reconnect_timeout=timeout_s,
            check=AsyncConnectionPool.check_connection,
            configure=_configure(timeout_s),
            open=False,
            name="pentimento",
        )
        await pool.open()
        return cls(pool, dsn, timeout_s)

    async def close(self) -> None:
        """Close every connection. Calls that wait for one get `Unavailable`."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A live connection until the block ends, for at most the pool's `timeout_s`.

        Raises `Unavailable` when the server is away, too slow or asks to try again, `Broken` for anything else that
        PostgreSQL refuses. A server that hangs without closing its sockets costs up to 10 s more (the cancel request).
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.connection() as connection:
                yield connection
        except TimeoutError as error:
            text = (
                f"no answer within {self._timeout_s:g} s: PostgreSQL is away, or every connection of the pool is busy"
            )
            raise Unavailable("postgres", text) from error
        except psycopg.Error as error:
            raise translated(error) from error

    @asynccontextmanager
    async def alone(self, *, timeout_s: float) -> AsyncIterator[Connection]:
        """A connection of its own, outside of the pool, for work of minutes: bulk loads, building an index.

        The whole block has `timeout_s`, a single statement no deadline of its own. Raises as `connection` does.
        """
        try:
            async with asyncio.timeout(timeout_s):
                options = _connect_options(self._timeout_s)
                connection = await Connection.connect(self._dsn, autocommit=True, row_factory=dict_row, **options)
                async with connection:
                    yield connection
        except TimeoutError as error:
            raise Unavailable("postgres", f"PostgreSQL was not done within {timeout_s:g} s") from error
        except psycopg.Error as error:
            raise translated(error) from error

    async def ping(self) -> None:
        """Return if the database answers a query. Raises Unavailable."""
        async with self.connection() as connection:
            await connection.execute("select 1")

    async def migrate(self) -> None:
        """Create the database where that is possible and missing, pgvector, and every table. Safe to repeat, and safe
        for several processes at once: one works, the others wait.

        Raises `Unavailable` when the server is away, `Broken` when it refuses (with what an administrator has to do).
        """
        try:
            async with asyncio.timeout(MIGRATION_TIMEOUT_S):
                connection = await self._connect_or_create()
                async with connection:
                    await _apply(connection)
        except TimeoutError as error:
            raise Unavailable("postgres", f"the schema was not in place after {MIGRATION_TIMEOUT_S:g} s") from error
        except psycopg.Error as error:
            raise translated(error) from error

    async def schema(self) -> int:
        """The version of the tables; 0 where there are none yet. Raises Unavailable, also where the database is not
        made."""
        async with self.connection() as connection:
            found = await connection.execute("select to_regclass('schema_version') as there")
            row = await found.fetchone()
            if row is None or row["there"] is None:
                return 0
            row = await (await connection.execute("select max(version) as version from schema_version")).fetchone()
        return int(row["version"] or 0) if row else 0

    async def _connect_or_create(self) -> AsyncConnection[Any]:
        options = _connect_options(self._timeout_s)
        try:
            return await AsyncConnection.connect(self._dsn, **options)
        except psycopg.OperationalError as first:
            name = conninfo_to_dict(self._dsn).get("dbname")
            if not name:
                raise
            try:  # "no such database" comes without a code in the server's language, so look rather than parse
                maintenance = await AsyncConnection.connect(self._dsn, autocommit=True, **options, dbname="postgres")
            except psycopg.OperationalError:
                raise first from None
            async with maintenance:
                await _create_database(maintenance, str(name))
        return await AsyncConnection.connect(self._dsn, **options)


def translated(error: psycopg.Error) -> PentimentoError:
    """The error of this project that a psycopg error stands for."""
    text = " ".join(str(error).split()) or type(error).__name__
    passing = isinstance(error, psycopg.OperationalError) and not isinstance(error, _LASTING)
    if passing or isinstance(error, _PASSING):
        return Unavailable("postgres", f"PostgreSQL is away or busy: {text}")
    return Broken(f"PostgreSQL refused a statement ({error.sqlstate or type(error).__name__}): {text}")


def storable(text: str) -> str:
    """Free text without the NUL characters that PostgreSQL's text cannot hold."""
    return text.replace("\x00", "")


def _connect_options(timeout_s: float) -> dict[str, Any]:
    return {
        "connect_timeout": max(2, round(timeout_s)),  # libpq takes whole seconds, two at least
        "tcp_user_timeout": round(timeout_s * 1000),  # a host that vanished without a word
        "application_name": "pentimento",
    }


def _configure(timeout_s: float) -> Any:
    settings = {
        # The server ends a statement before our own deadline does: a clean error instead of a cancelled connection.
        "statement_timeout": f"{max(1, round(timeout_s * 900))}ms",
        # A tenant of ten pictures and one of ten million want different plans for the same statement.
        "plan_cache_mode": "force_custom_plan",
        # The tenant is a filter on the graph's answers: go on scanning until enough of them pass.
        "hnsw.iterative_scan": "strict_order",
        "hnsw.ef_search": "100",
        "hnsw.max_scan_tuples": "50000",
    }
    statement = sql.SQL("; ").join(
        sql.SQL("set {} = {}").format(sql.Identifier(*name.split(".")), sql.Literal(value))
        for name, value in settings.items()
    )

    async def configure(connection: AsyncConnection[Any]) -> None:
        await connection.execute(statement)

    return configure


async def _create_database(maintenance: AsyncConnection[Any], name: str) -> None:
    await maintenance.execute("select pg_advisory_lock(%s)", [MIGRATION_LOCK])  # held until this connection closes
    found = await maintenance.execute("select 1 from pg_database where datname = %s", [name])
    if await found.fetchone() is None:
        with suppress(errors.DuplicateDatabase):
            await maintenance.execute(sql.SQL("create database {}").format(sql.Identifier(name)))


async def _apply(connection: AsyncConnection[Any]) -> None:
    """Everything in the caller's one transaction: the next process sees all of the schema or nothing."""
    await connection.execute("select pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
    await _ensure_pgvector(connection)
    await connection.execute(
        "create table if not exists schema_version (version integer primary key, applied_at timestamptz default now())"
    )
    found = await (await connection.execute("select max(version) from schema_version")).fetchone()
    if found and (found[0] or 0) >= SCHEMA_VERSION:
        return  # also where a newer release went first: schemas only grow
    await connection.execute(resources.files("services.clients").joinpath("schema.sql").read_bytes())
    await connection.execute("insert into schema_version (version) values (%s)", [SCHEMA_VERSION])


async def _ensure_pgvector(connection: AsyncConnection[Any]) -> None:
    try:
        await connection.execute("create extension if not exists vector")
    except (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.UndefinedFile) as error:
        raise Broken(
            f"pgvector cannot be set up ({' '.join(str(error).split())}): install it on the server, "
            "then have an administrator run `create extension vector` in this database"
        ) from error
    found = await (await connection.execute("select extversion from pg_extension where extname = 'vector'")).fetchone()
    version = found[0] if found else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_PGVECTOR:
        raise Broken(f"pgvector {version} is too old: run `alter extension vector update` to 0.8 or newer")
