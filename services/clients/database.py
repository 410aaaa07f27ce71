"""PostgreSQL: one pool of connections a process, its deadlines, its error map and its schema (`migrating.py`).

In: a libpq connection string. Out: connections for the clients in this folder, and nothing but `Unavailable` or
`Broken` when something goes wrong. It exists so that no other file knows what a lost server looks like.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from services.clients import migrating
from services.core.errors import Broken, PentimentoError, Unavailable

MIGRATION_TIMEOUT_S = 600.0  # another process may be building an index over existing pictures: minutes

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

    async def migrate(self) -> tuple[str, ...]:
        """Create the database where that is possible and missing, pgvector, and bring the tables to this release. Safe
        to repeat, and safe for several processes at once: one works, the others wait. The revisions that were applied.

        Raises `Unavailable` when the server is away, `Broken` when it refuses (with what an administrator has to do).
        """
        options = _connect_options(self._timeout_s)
        try:
            return await asyncio.to_thread(migrating.upgrade, self._dsn, options, timeout_s=MIGRATION_TIMEOUT_S)
        except psycopg.Error as error:
            raise translated(error) from error

    async def revision(self) -> str | None:
        """The revision of the tables; None where there are none yet, or of a release before there were revisions.

        Raises Unavailable, also where the database is not made.
        """
        async with self.connection() as connection:
            found = await connection.execute("select to_regclass('alembic_version') as there")
            row = await found.fetchone()
            if row is None or row["there"] is None:
                return None
            row = await (await connection.execute("select version_num from alembic_version")).fetchone()
        return None if row is None else str(row["version_num"])


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
