"""Erasure: everything that PostgreSQL holds of one content of one tenant, in one transaction.

In: a tenant and a SHA-256. Out: rows removed or emptied, the objects that nobody names any more, the shards that hold
the content; and a search of every column of every table for what is left. The transaction commits when the caller has
removed the objects: cut off before, everything is done once more. What another tenant has of the same content stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from services.clients.candidates import METHOD
from services.clients.database import Connection, Database
from services.clients.datasets import Version, version_in
from services.clients.erasure_rows import OF_CONTENT, left_in, remove
from services.core.erasure import content_mark
from services.core.intake.keys import features_key, image_key, incoming_key

TIMEOUT_S = 3600.0  # rows are searched for text, which no index helps with, and shards are packed anew meanwhile


@dataclass(frozen=True, slots=True)
class ShardPart:
    """A shard with samples of the content, by id."""

    version: str
    object_key: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What has to follow in the object store: `objects` to remove, `shards` to pack without some samples, `unfinished`
    versions whose shards go as a whole. `counts` are rows by table; `shared`: another tenant has the content, too."""

    objects: tuple[str, ...]
    shards: tuple[ShardPart, ...]
    unfinished: tuple[str, ...]
    counts: dict[str, int]
    shared: bool


class Erasing:
    """An erasure under way: rows are gone, and nothing is committed yet."""

    def __init__(self, connection: Connection, query: dict[str, Any], pdq: str | None, found: Found) -> None:
        self._connection = connection
        self._query = query
        self._pdq = pdq
        self.found = found

    async def repacked(self, part: ShardPart, *, digest: str, size_bytes: int) -> None:
        """A shard was packed without the content's samples."""
        row = {"version": part.version, "object_key": part.object_key, "digest": digest, "size_bytes": size_bytes}
        await self._connection.execute(_REPACKED, {**row, "gone": len(part.ids)})

    async def version(self, name: str) -> Version:
        """A dataset version as it stands now."""
        return await version_in(self._connection, name)

    async def left(self) -> list[str]:
        """Every `table.column` that still names the content; see `erasure_rows.left_in`."""
        return await left_in(self._connection, self._query, self._pdq, shared=self.found.shared)

    async def record(self, by: str, left: Sequence[str]) -> None:
        """Keep that something was erased, by whom, and how much: the last step."""
        row = {"mark": content_mark(self._query["sha256"]), "by": by, "counts": Jsonb(self.found.counts)}
        await self._connection.execute(RECORD, {**self._query, **row, "left": Jsonb(list(left))})


class Erasures:
    """Erases contents from the database. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def content_of(self, tenant: str, upload_id: str) -> str | None:
        """The SHA-256 of an upload's content; None where there is no such upload, or it was erased."""
        query = {"tenant": tenant, "upload_id": upload_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_CONTENT_OF, query)).fetchone()
        return None if row is None else str(row["sha256"])

    async def forget_answers(self, contents: Sequence[str]) -> int:
        """Remove kept answers that name one of the contents, for whoever does not erase thoroughly. How many."""
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            return (await connection.execute(_FORGET_ANSWERS, {"contents": list(contents)})).rowcount

    @asynccontextmanager
    async def erasing(self, tenant: str, sha256: str, *, thorough: bool = True) -> AsyncIterator[Erasing]:
        """Remove the rows; they are gone for good when the block ends without an error. See `remove`."""
        query: dict[str, Any] = {"tenant": tenant, "sha256": sha256}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection, connection.transaction():
            shared = await (await connection.execute(_SHARED, query)).fetchone() is not None
            hashed = await (await connection.execute(_OWN_HASH, query)).fetchone()
            pdq = None if hashed is None else str(hashed["pdq"])
            shards, unfinished = await _in_datasets(connection, query)
            counts, masks = await remove(connection, query, pdq, shared=shared, thorough=thorough)
            objects = await unnamed(connection, masks)
            if not shared:
                objects += [image_key(sha256), incoming_key(sha256), features_key(sha256, METHOD)]
            yield Erasing(connection, query, pdq, Found(tuple(objects), shards, unfinished, counts, shared))


_CONTENT_OF = """
select sha256 from upload where tenant = %(tenant)s and upload_id = %(upload_id)s
union all
select sha256 from ledger where tenant = %(tenant)s and upload_id = %(upload_id)s and sha256 is not null
limit 1
"""
_FORGET_ANSWERS = """
delete from kept_answer where exists (
    select 1 from unnest(%(contents)s::text[]) as asked (content) where position(content in body) > 0
)
"""
_SHARED = " union all ".join(
    f"(select 1 from {table} where tenant <> %(tenant)s and sha256 = %(sha256)s limit 1)"
    for table in ("candidate", "upload", "ledger", "hard_case", "annotation", "sample")
)
_OWN_HASH = """
select pdq from content where sha256 = %(sha256)s and not exists (
    select 1 from content as other where other.pdq = content.pdq and other.sha256 <> content.sha256
)
"""
# Two pictures of one size without any edit have the same mask.
_UNNAMED = """
select key from unnest(%(keys)s::text[]) as asked (key)
where not exists (select 1 from ledger where substring(event from '"object_key":"(masks/[^"]+)"') = key)
    and not exists (select 1 from verdict_history where substring(event from '"object_key":"(masks/[^"]+)"') = key)
    and not exists (select 1 from hard_case where substring(event from '"mask_key":"(masks/[^"]+)"') = key)
    and not exists (select 1 from review where substring(event from '"corrected_mask_key":"(masks/[^"]+)"') = key)
    and not exists (select 1 from annotation where key in (mask_key, original_mask_key))
    and not exists (select 1 from sample where key = mask_key)
    and not exists (select 1 from review_mask where key = mask_key)
    and not exists (select 1 from review_decision where key = mask_key)
"""
_IN_DATASETS = f"""
select version, state, shard, array_agg(sample_id order by sample_id) as ids from dataset_sample
join sample on sample.id = sample_id join dataset_version on dataset_version.name = version
where {OF_CONTENT} group by version, state, shard order by version, shard
"""
_MARK = "update dataset_version set state = 'erased' where name = any(%(names)s::text[])"
_FORGET = (
    "delete from dataset_sample where version = any(%(names)s::text[])",
    "delete from dataset_shard where version = any(%(names)s::text[])",
    "delete from dataset_version where name = any(%(names)s::text[])",
)
_REPACKED = """
update dataset_shard set digest = %(digest)s, size_bytes = %(size_bytes)s, samples = samples - %(gone)s
where version = %(version)s and object_key = %(object_key)s
"""
RECORD = """
insert into erasure (tenant, content_mark, erased_by, counts, left_in)
values (%(tenant)s, %(mark)s, %(by)s, %(counts)s, %(left)s)
"""


async def unnamed(connection: Connection, masks: set[str]) -> list[str]:
    """Those of the masks that nothing names any more."""
    rows = await (await connection.execute(_UNNAMED, {"keys": sorted(masks)})).fetchall()
    return [str(row["key"]) for row in rows]


async def _in_datasets(connection: Connection, query: dict[str, Any]) -> tuple[tuple[ShardPart, ...], tuple[str, ...]]:
    """Shards that hold the content, of versions that are marked now; and unfinished versions, which are forgotten."""
    rows = await (await connection.execute(_IN_DATASETS, query)).fetchall()
    unfinished = sorted({row["version"] for row in rows if row["state"] == "writing"})
    finished = [row for row in rows if row["state"] != "writing"]
    await connection.execute(_MARK, {"names": [row["version"] for row in finished]})
    for statement in _FORGET:
        await connection.execute(statement, {"names": unfinished})
    return tuple(ShardPart(row["version"], row["shard"], tuple(row["ids"])) for row in finished), tuple(unfinished)
