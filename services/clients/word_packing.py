"""Packing of visual words: postings that stand alone are moved into lists, a range of words at a time.

In: the tables `visual_word` and `packed_word`. Out: the same postings, all in the second. A range is moved in one
transaction, so that a search finds each posting once, before and after; a run that ends early is gone on with by the
next one. One process packs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.clients.database import Connection, Database
from services.core.intake.postings import Packed, merged

LEAST: Final = 1000  # pictures that are worth packing
SHARE: Final = 0.01  # of all pictures: each time, the lists of all their words are written anew
MOVED_AT_ONCE: Final = 4_000_000  # postings in one transaction at most, about: some 300 MB of memory
WRITTEN_AT_ONCE: Final = 64 * 2**20  # bytes of lists in one transaction at most, about
LOCK: Final = 0x70656E77
TIMEOUT_S: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Packing:
    """What a run did: postings moved, and pictures all of whose words are packed now."""

    postings: int
    pictures: int


class WordPacking:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(
        self, database: Database, *, least: int = LEAST, share: float = SHARE, moved_at_once: int = MOVED_AT_ONCE
    ) -> None:
        self._database = database
        self._least = least
        self._share = share
        self._at_once = moved_at_once

    async def unpacked(self) -> int:
        """Pictures with words that are not packed."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_UNPACKED)).fetchone()
        return row["pictures"] if row else 0

    async def due(self) -> bool:
        """Whether so many are not packed that it is worth the work."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_SIZE)).fetchone()
        return await self.unpacked() >= max(self._least, self._share * (row["pictures"] if row else 0))

    async def pack(self, *, moved: Callable[[int], None] = lambda postings: None) -> Packing | None:
        """Pack all that is there; None where another process does. `moved` is told of postings as they are."""
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            row = await (await connection.execute("select pg_try_advisory_lock(%s) as mine", [LOCK])).fetchone()
            if row is None or not row["mine"]:
                return None
            pictures = await (await connection.execute(_PICTURES)).fetchall()
            many = await self._range_size(connection)
            start: int | None = -(2**63)
            together = 0
            while start is not None:
                start, postings = await self._range(connection, start, many)
                together += postings
                moved(postings)
            await connection.execute(
                _MARK, {"seqs": [each["seq"] for each in pictures], "spaces": [each["space"] for each in pictures]}
            )
        return Packing(together, len(pictures))

    async def _range_size(self, connection: Connection) -> int:
        """Postings of a range. Rows lie in the order of pictures, so that each range walks through most of the table:
        few large ones are faster."""
        row = await (await connection.execute(_THERE_IS)).fetchone()
        postings, written = (row["postings"], row["bytes"]) if row else (0, 0)
        return max(1, min(self._at_once, postings // (1 + written // WRITTEN_AT_ONCE)))

    async def _range(self, connection: Connection, start: int, many: int) -> tuple[int | None, int]:
        """Moves the postings of the words from `start` on. Where the next range starts, and how many were moved."""
        row = await (await connection.execute(_END, {"start": start, "many": many})).fetchone()
        end = row["key"] if row else None
        async with connection.transaction(), connection.cursor(binary=True) as cursor:
            await cursor.execute(_TAKE, {"start": start, "end": 2**63 - 1 if end is None else end})
            taken = await cursor.fetchone()
            if taken is None or taken["postings"] is None:
                return end, 0
            await cursor.execute(_THERE, {"keys": taken["keys"]})
            there = {(each["key"], each["epoch"]): each["postings"] for each in await cursor.fetchall()}
            lists = await asyncio.to_thread(merged, there, taken["postings"])
            await cursor.execute(_PUT, _columns(lists))
        return end, taken["moved"]


def _columns(lists: Sequence[Packed]) -> dict[str, list[int] | list[bytes]]:
    return {
        "keys": [each.key for each in lists],
        "epochs": [each.epoch for each in lists],
        "postings": [each.postings for each in lists],
    }


_UNPACKED = "select count(*) as pictures from worded where not packed"
# What the planner was told last.
_SIZE = "select greatest(reltuples, 0)::bigint as pictures from pg_class where oid = 'worded'::regclass"
_PICTURES = "select seq, space from worded where not packed"
_THERE_IS = """
select (select count(*) from visual_word) as postings, pg_total_relation_size('packed_word') as bytes
"""
_END = "select key from visual_word where key > %(start)s order by key offset %(many)s limit 1"
_TAKE = """
with taken as (
    delete from visual_word where key >= %(start)s and key < %(end)s returning key, seq, place
)
select string_agg(int8send(key) || int8send(seq) || int4send(place), '') as postings, count(*) as moved,
       array_agg(distinct key) as keys
from taken
"""
_THERE = "select key, epoch, postings from packed_word where key = any(%(keys)s) order by key, epoch for update"
_PUT = """
insert into packed_word (key, epoch, postings)
select * from unnest(%(keys)s::bigint[], %(epochs)s::integer[], %(postings)s::bytea[])
on conflict (key, epoch) do update set postings = excluded.postings
"""
_MARK = """
update worded set packed = true from unnest(%(seqs)s::bigint[], %(spaces)s::integer[]) as done (seq, space)
where worded.seq = done.seq and worded.space = done.space
"""
