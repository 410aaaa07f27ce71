"""A migrated database on the run's one PostgreSQL, empty at the start of each test.

One for all tests, because each further database costs the server's shutdown some hundred files to write.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from services.clients.database import Database
from services.local.postgres import Postgres


def dsn_of(postgres: Postgres, database: str) -> str:
    """The address of another database on the same server."""
    return make_conninfo("", **{**conninfo_to_dict(postgres.dsn), "dbname": database})


@pytest.fixture
def fresh_dsn(postgres: Postgres) -> str:
    """The address of a database that does not exist yet."""
    return dsn_of(postgres, f"test_{uuid4().hex}")


@pytest.fixture(scope="session")
async def migrated(postgres: Postgres) -> AsyncIterator[Database]:
    opened = await Database.open(dsn_of(postgres, f"clients_{uuid4().hex}"), pool_size=8, timeout_s=20)
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
async def database(migrated: Database) -> Database:
    """A migrated database without rows, and without the tables that were made for embedders."""
    await emptied(migrated)
    return migrated


async def emptied(database: Database) -> None:
    """Takes every row away, and the tables that were made for embedders."""
    partitions = "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'embedding'::regclass"
    tables = "select tablename from pg_tables where schemaname = 'public' and tablename <> all(%s)"
    async with database.connection() as connection:
        for row in await (await connection.execute(partitions)).fetchall():
            await connection.execute(sql.SQL("drop table {}").format(sql.Identifier(row["name"])))
        rows = await (await connection.execute(tables, [["schema_version", "alembic_version"]])).fetchall()
        names = sql.SQL(", ").join(sql.Identifier(row["tablename"]) for row in rows)
        await connection.execute("alter table audit disable trigger audit_append_only")  # it refuses this, too
        await connection.execute(sql.SQL("truncate {} restart identity").format(names))
        await connection.execute("alter table audit enable trigger audit_append_only")
