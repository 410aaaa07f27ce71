"""Embedders, by version, and the tables that hold their vectors.

In: an embedder's name and the length of its vectors. Out: a partition of `embedding` for it, made, retired and dropped
as a whole. It exists so that two versions lie side by side while a library is embedded anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from psycopg import sql

from services.clients.database import Connection, Database
from services.core.errors import Broken

LEAVES: Final = 8  # partitions of an embedder, by the tenant's hash
EMBEDDERS_LOCK: Final = 0x656D6265  # an advisory lock; the number spells "embe"
BUILD_TIMEOUT_S: Final = 6 * 3600.0  # building the graphs of millions of vectors takes hours
COUNT_TIMEOUT_S: Final = 600.0
HOLD_LOOK_S: Final = 0.5  # between two looks at graphs that somebody else builds

State = Literal["building", "active", "retired"]


@dataclass(frozen=True, slots=True)
class Partition:
    """An embedder's part of the index: `number` names its tables, `dimensions` is the length of its vectors."""

    number: int
    dimensions: int
    state: State


@dataclass(frozen=True, slots=True)
class EmbedderState:
    """An embedder and what lies there of it: pictures, vectors, bytes on disk with their indexes, and when the oldest
    and the newest of them were added (None where there are none).
    """

    name: str
    dimensions: int
    state: State
    created_at: datetime
    pictures: int
    vectors: int
    size_bytes: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Effort:
    """What the server may spend on building a graph. Once a graph outgrows `memory_mb`, building slows down several
    times; a vector takes about twice its own size. `workers` beside the first share that memory through /dev/shm,
    which containers keep at 64 MB unless told otherwise: 0 needs none of it.
    """

    memory_mb: int = 512
    workers: int = 2


USUAL: Final = Effort()


class Embedders:
    """The versions that are there. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self, name: str, dimensions: int) -> None:
        """Make the tables and graphs of an embedder, empty, in the state `building`. Repeating it changes nothing, and
        of several processes at once one works and the others wait.

        Raises Broken where the name is there with vectors of another length.
        """
        async with self._database.connection() as connection:
            there = await partition_of(connection, name)
            if there is None:
                async with connection.transaction():
                    there = await _made(connection, name, dimensions)
        if there.dimensions != dimensions:
            raise Broken(
                f"embedder {name} has vectors of {there.dimensions} numbers, not {dimensions}: "
                "a network with other vectors needs another version"
            )

    async def activate(self, name: str, effort: Effort = USUAL) -> None:
        """Make it the active embedder and retire the former one. Graphs that a bulk load left out are built first.

        Raises Broken where there is no such embedder.
        """
        async with self._database.alone(timeout_s=BUILD_TIMEOUT_S) as connection:
            there = await known_partition(connection, name)
            await hold(connection, there)
            await build_graphs(connection, there, effort)
            async with connection.transaction():
                await connection.execute("select pg_advisory_xact_lock(%s)", [EMBEDDERS_LOCK])
                await connection.execute(_RETIRE, {"name": name})
                await connection.execute(_ACTIVATE, {"name": name})

    async def drop(self, name: str) -> bool:
        """Drop an embedder with its vectors, as tables and at once. Whether it was there. Raises Broken for the active
        one.
        """
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute("select pg_advisory_xact_lock(%s)", [EMBEDDERS_LOCK])
            there = await partition_of(connection, name)
            if there is None:
                return False
            if there.state == "active":
                raise Broken(f"embedder {name} is active and cannot be dropped: activate another one first")
            await connection.execute(_LOCK_PICTURES)
            await connection.execute(sql.SQL("drop table {}").format(table(there)))
            await connection.execute("delete from embedder where name = %s", [name])
        return True

    async def find(self, name: str) -> Partition | None:
        """An embedder's part and state, at once and without counting; None where it was not prepared."""
        async with self._database.connection() as connection:
            return await partition_of(connection, name)

    async def state(self) -> list[EmbedderState]:
        """Every embedder, newest first. Counts all vectors: seconds for millions."""
        async with self._database.alone(timeout_s=COUNT_TIMEOUT_S) as connection:
            rows = await (await connection.execute(_STATE)).fetchall()
        return [EmbedderState(**row) for row in rows]


async def partition_of(connection: Connection, name: str) -> Partition | None:
    """The part of an embedder, None where it was not prepared."""
    row = await (await connection.execute(_PARTITION, {"name": name})).fetchone()
    return None if row is None else _partition(row)


async def known_partition(connection: Connection, name: str) -> Partition:
    """As `partition_of`, for an embedder that must be there. Raises Broken."""
    there = await partition_of(connection, name)
    if there is None:
        raise Broken(f"there is no embedder {name} in the index: it was dropped, or never prepared")
    return there


async def hold(connection: Connection, of: Partition) -> None:
    """Hold the graphs of an embedder until the connection closes: who builds them or leaves them out is alone.

    By asking now and then: one that waits inside the server has a snapshot, and the one who holds the lock would wait
    for that snapshot to end before a graph is built.
    """
    while True:
        asked = "select pg_try_advisory_lock(%s, %s) as held"
        row = await (await connection.execute(asked, [EMBEDDERS_LOCK, of.number])).fetchone()
        if row and row["held"]:
            return
        await asyncio.sleep(HOLD_LOOK_S)


async def drop_graphs(connection: Connection, of: Partition) -> None:
    """Take the graphs away, so that many vectors come in fast. Searches go on, exact and slow."""
    async with connection.transaction():
        for name in (name for number in range(LEAVES) for name, _ in _graphs(of, number)):
            await connection.execute(sql.SQL("drop index if exists {}").format(sql.Identifier(name)))


async def build_graphs(connection: Connection, of: Partition, effort: Effort) -> None:
    """Build the graphs that are missing, and count what the planner asks for.

    Concurrently, outside of any transaction: a plain build keeps writers away for as long as it takes, and every
    removal of a picture writes to all embedders. What a build that died left is no graph and goes first.
    """
    await connection.execute(
        "select set_config('maintenance_work_mem', %s, false), "
        "set_config('max_parallel_maintenance_workers', %s, false)",
        [f"{effort.memory_mb}MB", str(effort.workers)],
    )
    graphs = dict(graph for number in range(LEAVES) for graph in _graphs(of, number, how="concurrently"))
    for row in await (await connection.execute(_DEAD, {"names": list(graphs)})).fetchall():
        await connection.execute(sql.SQL("drop index {}").format(sql.Identifier(row["name"])))
    for statement in graphs.values():
        await connection.execute(statement)
    await connection.execute(sql.SQL("analyze {}").format(table(of)))


def table(of: Partition, leaf: int | None = None) -> sql.Identifier:
    """The table of an embedder, or one of its leaves."""
    return sql.Identifier(_table(of, leaf))


_DEAD = """
select relname as name from pg_index join pg_class on pg_class.oid = indexrelid
where relname = any(%(names)s::text[]) and not indisvalid
"""
_PARTITION = "select id, dimensions, state from embedder where name = %(name)s"
_NEW = """
insert into embedder (name, dimensions) values (%(name)s, %(dimensions)s) returning id, dimensions, state
"""
_RETIRE = "update embedder set state = 'retired' where state = 'active' and name <> %(name)s"
_ACTIVATE = "update embedder set state = 'active' where name = %(name)s"
# Before `embedding`, as a removal takes them: making and dropping a partition locks both, for an instant.
_LOCK_PICTURES = "lock table candidate in share row exclusive mode"
_STATE = """
select embedder.name, embedder.dimensions, embedder.state, embedder.created_at,
       coalesce(held.pictures, 0) as pictures, coalesce(held.vectors, 0) as vectors,
       coalesce((select sum(pg_total_relation_size(relid)) from pg_partition_tree(format('embedding_%s', embedder.id))
                 where isleaf), 0)::bigint as size_bytes,
       held.oldest, held.newest
from embedder left join (
    select embedder as id, count(*) filter (where region = 0) as pictures, count(*) as vectors,
           min(added_at) as oldest, max(added_at) as newest
    from embedding group by embedder
) as held using (id)
order by embedder.created_at desc, embedder.id desc
"""


async def _made(connection: Connection, name: str, dimensions: int) -> Partition:
    """In the caller's transaction, so that the embedder is there with all of its tables or not at all."""
    await connection.execute("select pg_advisory_xact_lock(%s)", [EMBEDDERS_LOCK])
    there = await partition_of(connection, name)
    if there is not None:
        return there
    row = await (await connection.execute(_NEW, {"name": name, "dimensions": dimensions})).fetchone()
    assert row is not None  # an insert that returns nothing would have raised
    made = _partition(row)
    await connection.execute(_LOCK_PICTURES)
    for statement in _tables(made):
        await connection.execute(statement)
    return made


def _tables(of: Partition) -> Iterator[sql.Composed]:
    whole = sql.SQL("create table {} partition of embedding for values in ({}) partition by hash (tenant)")
    yield whole.format(table(of), sql.Literal(of.number))
    leaf = sql.SQL("create table {} partition of {} for values with (modulus {}, remainder {})")
    for number in range(LEAVES):
        yield leaf.format(table(of, number), table(of), sql.Literal(LEAVES), sql.Literal(number))
        yield from (statement for _, statement in _graphs(of, number))


def _graphs(of: Partition, leaf: int, how: Literal["", "concurrently"] = "") -> Iterator[tuple[str, sql.Composed]]:
    """The two graphs of a leaf, by name: trusted originals and earlier uploads apart, as in schema.sql for hashes."""
    create = sql.SQL(
        "create index {} if not exists {} on {} using hnsw ((vector::halfvec({})) halfvec_cosine_ops) where {}"
    )
    for kind, condition in (("trusted", "trusted"), ("upload", "not trusted")):
        name = f"{_table(of, leaf)}_{kind}"
        yield (
            name,
            create.format(
                sql.SQL(how), sql.Identifier(name), table(of, leaf), sql.Literal(of.dimensions), sql.SQL(condition)
            ),
        )


def _table(of: Partition, leaf: int | None) -> str:
    return f"embedding_{of.number}" if leaf is None else f"embedding_{of.number}_{leaf}"


def _partition(row: Mapping[str, Any]) -> Partition:
    return Partition(row["id"], row["dimensions"], row["state"])
