"""The index of embeddings: vectors of the regions of registered pictures, searched beside PDQ.

In: pictures with the vectors of their regions. Out: the pictures that have a part which looks like a part of an upload,
and pictures that have no vectors yet. Vectors find, geometry decides, as with hashes.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Self

import numpy as np

from services.clients.candidates import Picture, picture_of
from services.clients.database import Connection, Database
from services.clients.embedders import (
    BUILD_TIMEOUT_S,
    COUNT_TIMEOUT_S,
    USUAL,
    Effort,
    Partition,
    build_graphs,
    drop_graphs,
    hold,
    known_partition,
    partition_of,
)
from services.core.errors import Broken
from services.core.intake.regions import STORED, Embedding, Vectors

AT_ONCE: Final = 10  # pictures that `add` puts in with one statement: a vector grows its graph by milliseconds
CHUNK: Final = 1000  # pictures that a bulk load puts in with one
EF_SEARCH: Final = 40  # candidates that a scan keeps: many scans, and what they seek stands out


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of a registered picture, trusted or an earlier upload. Of them the first `STORED` are kept."""

    tenant: str
    sha256: str
    trusted: bool
    embedding: Embedding

    @classmethod
    def of(cls, picture: Picture, embedding: Embedding) -> Self:
        return cls(picture.tenant, picture.image.sha256, picture.trusted, embedding)


@dataclass(frozen=True, slots=True)
class Similar:
    """A registered picture, the cosine similarity, -1..1, of its region `stored` and the upload's region `sought`
    (places in `REGIONS`): the two that are most alike.
    """

    picture: Picture
    similarity: float
    sought: int
    stored: int


@dataclass(frozen=True, slots=True)
class After:
    """A place in the list of pictures without vectors: the one after which the next page starts."""

    tenant: str
    sha256: str
    trusted: bool

    @classmethod
    def picture(cls, picture: Picture) -> Self:
        """The place for the page that follows this last picture of a page."""
        return cls(picture.tenant, picture.image.sha256, picture.trusted)


class Embeddings:
    """Vectors of registered pictures. Every method raises `Unavailable` or `Broken` only; Broken also for an embedder
    that was not prepared (`Embedders.prepare`) and for vectors that are not of its length.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rows: Sequence[Embedded]) -> int:
        """Add or replace vectors, at once findable. Returns how many pictures now have theirs: those that are not
        registered (any more) are passed over.
        """
        kept = 0
        for name, group in groupby(sorted(rows, key=_key), key=lambda row: row.embedding.embedder):
            of_one = list({_key(row): row for row in group}.values())
            for start in range(0, len(of_one), AT_ONCE):
                async with self._database.connection() as connection:
                    there = await known_partition(connection, name)
                    query = {"number": there.number, **_columns(of_one[start : start + AT_ONCE], there)}
                    found = await (await connection.execute(_ADD, query)).fetchone()
                kept += found["pictures"] if found else 0
        return kept

    async def load(self, name: str, rows: AsyncIterable[Embedded], effort: Effort = USUAL) -> int:
        """Add or replace many vectors of an embedder that is `building`. Returns the number of pictures, as `add`.

        The graphs are taken away first and built in one go at the end, several times faster than growing them vector
        by vector. Until then searches of this embedder are exact and slow, which nobody notices in a version that
        is not active: so no second copy of the leaves is loaded to be swapped in, which would have to lock out
        registrations for as long. Rows go by COPY into a temporary table and from there on, a thousand pictures a
        transaction: COPY alone can neither replace rows nor pass over pictures that were removed. Stopped halfway, what
        was loaded stays, and the next `load` or `Embedders.activate` builds the graphs.

        Raises Broken for an embedder in another state.
        """
        loaded = 0
        async with self._database.alone(timeout_s=BUILD_TIMEOUT_S) as connection:
            there = await known_partition(connection, name)
            if there.state != "building":
                raise Broken(f"embedder {name} is {there.state}: bulk loads are for one that is being built, use `add`")
            await hold(connection, there)
            await drop_graphs(connection, there)
            await connection.execute(_STAGING)
            async for chunk in _chunks(rows, CHUNK):
                loaded += await _load(connection, there, name, chunk)
            await build_graphs(connection, there, effort)
        return loaded

    async def remove(self, tenant: str, sha256s: Sequence[str]) -> int:
        """Remove the vectors of a tenant's pictures, of every embedder; `missing` then lists them. Returns how many.

        Not needed when a picture is removed or withdrawn: its vectors go along (a foreign key with a cascade).
        """
        query = {"tenant": tenant, "sha256s": list(sha256s)}
        async with self._database.connection() as connection:
            return (await connection.execute(_REMOVE, query)).rowcount

    async def nearest(
        self,
        tenant: str,
        embedding: Embedding,
        *,
        limit: int,
        most_far: float,
        trusted: bool | None = None,
        but: str | None = None,
    ) -> list[Similar]:
        """At most `limit` pictures of the tenant with a region within the cosine distance `most_far` (0..2) of one of
        the embedding's, most alike first, each content once. Empty for an embedder without vectors.

        Places are dealt in turn to trusted pictures and earlier uploads, and a content registered as both counts as
        trusted; `trusted` asks for one kind only. Pictures on the stop list are passed over, and so is an earlier
        upload of the content `but`. One scan of a graph for each vector and kind, all in one statement; the tenant's
        leaf holds others, too, and every scan goes on (`hnsw.iterative_scan`, set for each connection) until enough of
        what it finds is the tenant's.
        """
        async with self._database.connection() as connection:
            there = await partition_of(connection, embedding.embedder)
            if there is None:
                return []
            _fit(embedding, there)
            query = {
                "number": there.number,
                "tenant": tenant,
                "vectors": texts(embedding.vectors),
                "most_far": most_far,
                "limit": limit,
                "depth": 2 * limit,  # several regions of a picture may be near
                "kinds": [True, False] if trusted is None else [trusted],
                "but": but,
            }
            async with connection.transaction():
                await connection.execute("select set_config('hnsw.ef_search', %s, true)", [str(EF_SEARCH)])
                rows = await (await connection.execute(nearest_statement(there), query)).fetchall()
        return [Similar(picture_of(row), 1.0 - row["far"], row["sought"], row["stored"]) for row in rows]


class Missing:
    """Registered pictures without vectors of an embedder; `trusted` None asks for earlier uploads, too, and `tenant`
    None for all tenants. Every method raises `Unavailable` or `Broken` only.
    """

    def __init__(self, database: Database, *, trusted: bool | None = True) -> None:
        self._database = database
        self._kinds = [True, False] if trusted is None else [trusted]

    async def page(self, tenant: str | None, embedder: str, *, limit: int, after: After | None = None) -> list[Picture]:
        """At most `limit` of them, from `after` on. An embedder that is not there yet has vectors of none."""
        query: dict[str, Any] = self._query(tenant, embedder) | {"limit": limit}
        conditions = [_MISSING_OF if tenant is None else f"candidate.tenant = %(tenant)s and {_MISSING_OF}"]
        if after is not None:
            conditions.append("(candidate.tenant, sha256, trusted) > (%(at)s, %(at_sha256)s, %(at_trusted)s)")
            query |= {"at": after.tenant, "at_sha256": after.sha256, "at_trusted": after.trusted}
        statement = _MISSING.format(where=" and ".join(conditions))
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query)).fetchall()
        return [picture_of(row) for row in rows]

    async def count(self, tenant: str | None, embedder: str) -> int:
        """How many there are. Seconds for millions."""
        statement = _MISSING_COUNT.format(where=_MISSING_OF + ("" if tenant is None else " and tenant = %(tenant)s"))
        async with self._database.alone(timeout_s=COUNT_TIMEOUT_S) as connection:
            row = await (await connection.execute(statement, self._query(tenant, embedder))).fetchone()
        return row["pictures"] if row else 0

    def _query(self, tenant: str | None, embedder: str) -> dict[str, Any]:
        return {"tenant": tenant, "embedder": embedder, "kinds": self._kinds}


_COLUMNS = "embedder, tenant, sha256, trusted, region, vector"
# `for key share`: a picture that is removed meanwhile is waited for, and cannot break the foreign key. Always in the
# same order, so that two writers never wait for each other in a circle.
_KEEP = f"""
insert into embedding ({_COLUMNS})
select %(number)s, candidate.tenant, candidate.sha256, candidate.trusted, asked.region, asked.vector
from {{asked}} join candidate using (tenant, sha256, trusted)
order by candidate.tenant, candidate.sha256, candidate.trusted, asked.region
for key share of candidate
on conflict (tenant, sha256, trusted, region, embedder) do update
    set vector = excluded.vector, added_at = now() where embedding.vector <> excluded.vector
"""
_COUNT = """
select count(*) as pictures from (select distinct tenant, sha256, trusted from {asked}) as those
join candidate using (tenant, sha256, trusted)
"""
_ADD = f"""
with asked as (
    select tenant, sha256, trusted, region, vector::halfvec as vector
    from unnest(%(tenants)s::text[], %(sha256s)s::text[], %(kinds)s::boolean[], %(regions)s::smallint[],
                %(vectors)s::text[]) as asked (tenant, sha256, trusted, region, vector)
),
kept as ({_KEEP.format(asked="asked")})
{_COUNT.format(asked="asked")}
"""
_STAGING = """
create temporary table staging (
    tenant text not null, sha256 text not null, trusted boolean not null, region smallint not null,
    vector halfvec not null
) on commit delete rows
"""
_STAGE = "copy staging (tenant, sha256, trusted, region, vector) from stdin (format binary)"
_LOAD = _KEEP.format(asked="staging as asked")
_LOADED = _COUNT.format(asked="staging")
_REMOVE = "delete from embedding where tenant = %(tenant)s and sha256 = any(%(sha256s)s::text[])"

# The stop list as a scalar subquery: the planner never makes a join of it, so it filters inside the scan of the graph,
# which goes on until enough passes. The conditions on the distance and the content stand outside, as in candidates.py.
_NEAREST_OF_KIND = """
(
    select near.*, (asked.place - 1)::integer as sought
    from unnest(%(vectors)s::text[]::halfvec({d})[]) with ordinality as asked (vector, place) cross join lateral (
        select sha256, trusted, region, (embedding.vector::halfvec({d}) <=> asked.vector) as far from embedding
        where embedder = %(number)s and tenant = %(tenant)s and {kind} and {kind_asked} and (
            select stopped_by from candidate where candidate.tenant = embedding.tenant
                and candidate.sha256 = embedding.sha256 and candidate.trusted = embedding.trusted
        ) is null
        order by embedding.vector::halfvec({d}) <=> asked.vector limit %(depth)s
    ) as near
)
"""
_NEAREST = """
with found as materialized ({branches}),
each_once as (
    select distinct on (sha256) * from found
    where far <= %(most_far)s and (trusted or sha256 is distinct from %(but)s)
    order by sha256, trusted desc, far, sought, region
),
placed as (
    select *, row_number() over (partition by trusted order by far, sha256) as place from each_once
),
dealt as (select * from placed order by place, trusted desc limit %(limit)s)
select candidate.tenant, candidate.original_id, candidate.trusted, candidate.source, candidate.registered_at,
       content.*, dealt.far, dealt.sought, dealt.region as stored
from dealt join candidate on candidate.tenant = %(tenant)s and candidate.sha256 = dealt.sha256
    and candidate.trusted = dealt.trusted
join content on content.sha256 = dealt.sha256
order by dealt.far, candidate.trusted desc, candidate.registered_at, candidate.seq
"""

_MISSING_OF = """
trusted = any(%(kinds)s) and not exists (
    select 1 from embedding where embedding.embedder = (select id from embedder where name = %(embedder)s)
        and embedding.tenant = candidate.tenant and embedding.sha256 = candidate.sha256
        and embedding.trusted = candidate.trusted
)
"""
_MISSING = """
with page as (
    select tenant, original_id, sha256, trusted, source, registered_at from candidate
    where {where} order by tenant, sha256, trusted limit %(limit)s
)
select page.tenant, page.original_id, page.trusted, page.source, page.registered_at, content.*
from page join content using (sha256)
order by page.tenant, page.sha256, page.trusted
"""
_MISSING_COUNT = "select count(*) as pictures from candidate where {where}"


def nearest_statement(there: Partition) -> str:
    """The search in an embedder's part. The length stands in the text: an index on a cast answers only that cast."""
    kinds = (("trusted", "true = any(%(kinds)s)"), ("not trusted", "false = any(%(kinds)s)"))
    branches = (_NEAREST_OF_KIND.format(d=there.dimensions, kind=kind, kind_asked=asked) for kind, asked in kinds)
    return _NEAREST.format(branches="union all".join(branches))


async def _load(connection: Connection, there: Partition, name: str, chunk: Sequence[Embedded]) -> int:
    """One chunk, in a transaction. Returns the number of its pictures that are registered."""
    for row in chunk:
        if row.embedding.embedder != name:
            raise Broken(f"vectors of {row.embedding.embedder} cannot be loaded as those of {name}")
        _fit(row.embedding, there)
    async with connection.transaction(), connection.cursor() as cursor:
        async with cursor.copy(_STAGE) as copy:
            for part in _binary({_key(row): row for row in chunk}.values()):
                await copy.write(part)
        await cursor.execute(_LOAD, {"number": there.number})
        await cursor.execute(_LOADED)
        found = await cursor.fetchone()
    return found["pictures"] if found else 0


def _binary(rows: Iterable[Embedded]) -> Iterator[bytes]:
    """Rows in PostgreSQL's binary COPY format; a halfvec is its length and 0 as int16, then its numbers as float16."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for row in rows:
        tenant, sha256 = row.tenant.encode(), row.sha256.encode()
        head = b"".join((struct.pack("!h", 5), _field(tenant), _field(sha256), _field(bytes([row.trusted]))))
        for region, vector in enumerate(row.embedding.vectors[:STORED].astype(">f2")):
            halfvec = struct.pack("!hh", len(vector), 0) + vector.tobytes()
            yield head + _field(struct.pack("!h", region)) + _field(halfvec)
    yield struct.pack("!h", -1)


def _field(value: bytes) -> bytes:
    return struct.pack("!i", len(value)) + value


async def _chunks(rows: AsyncIterable[Embedded], size: int) -> AsyncIterator[list[Embedded]]:
    chunk: list[Embedded] = []
    async for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _columns(rows: Sequence[Embedded], there: Partition) -> dict[str, list[Any]]:
    """Different pictures of one embedder as arrays, with a place for each region."""
    columns: dict[str, list[Any]] = {name: [] for name in ("tenants", "sha256s", "kinds", "regions", "vectors")}
    for row in rows:
        _fit(row.embedding, there)
        for region, vector in enumerate(texts(row.embedding.vectors[:STORED])):
            for name, value in zip(columns, (row.tenant, row.sha256, row.trusted, region, vector), strict=True):
                columns[name].append(value)
    return columns


def _key(row: Embedded) -> tuple[str, str, str, bool]:
    return (row.embedding.embedder, row.tenant, row.sha256, row.trusted)


def _fit(embedding: Embedding, there: Partition) -> None:
    vectors: Vectors = embedding.vectors
    if vectors.ndim != 2 or vectors.shape[1] != there.dimensions:
        raise Broken(
            f"{embedding.embedder} gave vectors of the shape {vectors.shape}, not of {there.dimensions} numbers"
        )


def texts(vectors: Vectors) -> list[str]:
    """Vectors as pgvector reads them, of the very numbers that COPY sends: float16 takes five digits at most."""
    return ["[" + ",".join(f"{value:.5g}" for value in vector) + "]" for vector in vectors.astype(np.float16).tolist()]
