"""What an index of a given size costs: time to fill and to search it, what its graphs miss, disk and memory.

In: an embedded PostgreSQL whose index is filled (`filled`), the pictures that lie in it, and uploads made from them.
Out: a `Scale`. Searches go through the service's own clients; the plain pgvector query beside them, one vector and no
conditions but the graph's own, is the least that a search of that graph can cost.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from bench.lookup import drawn as by_chance
from bench.lookup.drawn import Drawn, Query, Spreads
from bench.lookup.filled import ADDED, EMBEDDER, POOL_TIMEOUT_S, TENANT, Filling, database_url, digest, filled
from bench.lookup.memory import Peak
from bench.lookup.methods import MIN_SIMILARITY, VERIFIED, WAYS
from bench.pictures import mosaics
from services.clients.candidates import Candidates, Neighbour, bits
from services.clients.database import Connection, Database
from services.clients.embeddings import Embeddings, Similar, texts
from services.clients.hashes import HashScan, Pace
from services.core.events import Fingerprint
from services.core.intake.fingerprint import MAX_DISTANCE
from services.core.intake.lookup import features_of, verify, verify_features
from services.core.intake.regions import STORED, Embedding
from services.local.postgres import Postgres

WARM = 20  # searches before any is timed
TEN = 10  # places of the plain query
GRAPH, PDQ, VECTORS, BOTH, ONE_HASH, ONE_VECTOR = (
    "PDQ by the graph, `Candidates.nearest`",
    "PDQ with hashes in memory, `Candidates.nearest`",
    "embeddings, `Embeddings.nearest`",
    "both, one after the other",
    "plain pgvector, one hash",
    "plain pgvector, one vector",
)


GRAPHS = ("graph of the vectors", "graph of the hashes")


@dataclass(frozen=True, slots=True)
class Scale:
    """Figures of one size. `seconds` of each search; `kept` the share of exact answers that graphs give; `bytes_of`
    tables and graphs; `backend_bytes` is the connection that searched, `server_bytes` all processes together;
    `scan_read_s` is what it took to read all hashes into memory."""

    filling: Filling
    seconds: dict[str, list[float]]
    kept: dict[str, float]
    bytes_of: dict[str, int]
    backend_bytes: int
    server_bytes: int
    scan_read_s: float


async def measured(
    postgres: Postgres,
    originals: int,
    spreads: Spreads,
    *,
    seed: int,
    asked: int,
    workers: int,
    vectors: bool,
    console: Console,
) -> Scale:
    """Fills the index where that is still to be done, then searches it for `asked` uploads; with hashes alone, or with
    `vectors` too."""
    console.print(f"{originals:,} originals: drawing them, filling the index where it is not yet")
    pictures = by_chance.pictures(originals + ADDED, spreads, seed)
    url = database_url(postgres, originals if vectors else f"hashes_{originals}")
    filling = await filled(postgres, url, pictures, originals, seed=seed, workers=workers, vectors=vectors)
    uploads = by_chance.queries(pictures, asked + WARM, spreads.vectors, seed)
    database = await Database.open(url, pool_size=1, timeout_s=POOL_TIMEOUT_S)
    scan = HashScan(database, most=originals + ADDED, pace=Pace(refresh_s=math.inf, settle_s=0))
    try:
        began = perf_counter()
        for _ in range(2):  # what is there is decided at the first look, and read at the second
            await scan.look()
        read_s = perf_counter() - began
        with Peak(postgres) as peak:
            seconds = await _timed(database, scan, uploads, console, vectors=vectors)
        kept = await _kept(database, pictures, uploads[WARM:], console, vectors=vectors)
        async with database.connection() as connection:
            sizes = await _sizes(connection)
        found = await _found(database, scan, uploads[WARM:], vectors=vectors)
        return Scale(filling, seconds, {**kept, **found}, sizes, peak.largest, peak.together, read_s)
    finally:
        await scan.close()
        await database.close()


@dataclass(frozen=True, slots=True)
class Verification:
    """Seconds of verifying an upload against five originals, on one core: `seen` where their local features are kept,
    as they are once an original is registered, `unseen` where they have to be looked at first."""

    seen: list[float]
    unseen: list[float]


def verification(photos: Sequence[Path], folder: Path, count: int, seed: int) -> Verification:
    """Pictures of 1024 x 683 pixels, all unlike."""
    cv2.setNumThreads(1)
    contents = [path.read_bytes() for path in mosaics(photos, folder, count + VERIFIED, seed=seed)]
    features = [features_of(data) for data in contents]
    seen, unseen = [], []
    for number in range(count):
        originals = slice(number + 1, number + 1 + VERIFIED)
        began = perf_counter()
        verify_features(contents[number], features[originals])
        between = perf_counter()
        verify(contents[number], contents[originals])
        seen.append(between - began)
        unseen.append(perf_counter() - between)
    return Verification(seen, unseen)


async def _timed(
    database: Database, scan: HashScan, uploads: Sequence[Query], console: Console, *, vectors: bool
) -> dict[str, list[float]]:
    """Seconds of each kind of search. An upload goes through all of them by turns; the first ones warm up."""
    graph, candidates, embeddings = Candidates(database), Candidates(database, scan), Embeddings(database)

    async def one_hash(upload: Query) -> object:
        async with database.connection() as connection:
            return await near_hashes(connection, upload.pdq)

    async def one_vector(upload: Query) -> object:
        async with database.connection() as connection:
            return await near_vectors(connection, upload)

    ways: dict[str, Callable[[Query], Awaitable[object]]] = {
        GRAPH: partial(_by_hash, graph),
        PDQ: partial(_by_hash, candidates),
        ONE_HASH: one_hash,
    }
    if vectors:
        ways |= {VECTORS: partial(_by_vectors, embeddings), ONE_VECTOR: one_vector}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for upload in track(uploads, "searches", console=console):
        for name, search in ways.items():
            began = perf_counter()
            await search(upload)
            seconds[name].append(perf_counter() - began)
    timed = {name: each[WARM:] for name, each in seconds.items()}
    if not vectors:
        return timed
    return timed | {BOTH: [sum(pair) for pair in zip(timed[PDQ], timed[VECTORS], strict=True)]}


async def _by_hash(candidates: Candidates, upload: Query) -> list[Neighbour]:
    """As the service seeks an upload by its hash."""
    return await candidates.nearest(
        TENANT, _fingerprint(upload), max_distance=MAX_DISTANCE, limit=VERIFIED + 1, ways=WAYS
    )


async def _by_vectors(embeddings: Embeddings, upload: Query) -> list[Similar]:
    """As the service seeks an upload by its vectors."""
    return await embeddings.nearest(
        TENANT, Embedding(EMBEDDER, upload.vectors), limit=VERIFIED + 1, most_far=1 - MIN_SIMILARITY
    )


async def near_hashes(connection: Connection, pdq: str) -> list[str]:
    """SHA-256 of the ten pictures whose hashes the graph finds nearest."""
    statement = (
        "select sha256 from candidate where trusted and pdq_quality >= 50 "
        "order by pdq <~> %(pdq)s::text::bit(256) limit %(ten)s"
    )
    rows = await (await connection.execute(statement, {"pdq": bits(pdq), "ten": TEN})).fetchall()
    return [row["sha256"] for row in rows]


async def near_vectors(connection: Connection, upload: Query) -> list[tuple[str, int]]:
    """SHA-256 and region of the ten vectors that the graph finds nearest to the first of an upload."""
    length = upload.vectors.shape[1]
    (vector,) = texts(upload.vectors[:1])
    statement = (
        "select sha256, region from embedding where embedder = (select id from embedder where name = %(name)s) "
        f"and tenant = %(tenant)s and trusted order by vector::halfvec({length}) <=> %(vector)s::halfvec({length}) "
        "limit %(ten)s"
    )
    query = {"name": EMBEDDER, "tenant": TENANT, "vector": vector, "ten": TEN}
    rows = await (await connection.execute(statement, query)).fetchall()
    return [(row["sha256"], row["region"]) for row in rows]


async def _kept(
    database: Database, pictures: Drawn, uploads: Sequence[Query], console: Console, *, vectors: bool
) -> dict[str, float]:
    """Share of the exact first ten that the graphs have among theirs."""
    kept: dict[str, list[float]] = {ONE_HASH: [], ONE_VECTOR: []}
    for upload in track(uploads, "exact answers", console=console):
        exact = {digest(int(place)) for place in by_chance.nearest_hashes(pictures, upload.pdq, TEN)}
        near = by_chance.nearest_vectors(pictures, upload.vectors[0], TEN) if vectors else np.zeros(0, np.intp)
        regions = {(digest(int(place) // STORED), int(place) % STORED) for place in near}
        async with database.connection() as connection:
            kept[ONE_HASH].append(len(exact & set(await near_hashes(connection, upload.pdq))) / TEN)
            if vectors:
                kept[ONE_VECTOR].append(len(regions & set(await near_vectors(connection, upload))) / TEN)
    return {name: float(np.mean(shares)) for name, shares in kept.items() if shares}


async def _found(database: Database, scan: HashScan, uploads: Sequence[Query], *, vectors: bool) -> dict[str, float]:
    """Share of uploads whose original the clients find."""
    ways: dict[str, Callable[[Query], Awaitable[Sequence[Neighbour | Similar]]]] = {
        GRAPH: partial(_by_hash, Candidates(database)),
        PDQ: partial(_by_hash, Candidates(database, scan)),
    }
    if vectors:
        ways[VECTORS] = partial(_by_vectors, Embeddings(database))
    found: dict[str, list[bool]] = {name: [] for name in ways}
    for upload in uploads:
        for name, search in ways.items():
            near = await search(upload)
            found[name].append(digest(upload.target) in {each.picture.image.sha256 for each in near})
    return {name: float(np.mean(each)) for name, each in found.items()}


async def _sizes(connection: Connection) -> dict[str, int]:
    """Bytes on disk of what an index is made of."""
    rows = await (await connection.execute(_SIZES)).fetchall()
    return {row["part"]: int(row["bytes"]) for row in rows}


_SIZES = """
select case
         when relname like 'embedding%' and access = 'hnsw' then 'graph of the vectors'
         when relname like 'embedding%' and relkind = 'i' then 'keys of the vectors'
         when relname like 'embedding%' then 'table of the vectors'
         when access = 'hnsw' then 'graph of the hashes'
         when relkind = 'i' then 'keys of the pictures'
         else 'tables of the pictures'
       end as part, sum(pg_relation_size(class.oid)) as bytes
from (select pg_class.oid, relname, relkind, coalesce(amname, '') as access
      from pg_class left join pg_am on pg_am.oid = relam
      where relnamespace = 'public'::regnamespace and relkind in ('r', 'i')
        and (relname like 'embedding%' or relname like 'candidate%' or relname like 'content%')) as class
group by 1 order by 1
"""


def _fingerprint(upload: Query) -> Fingerprint:
    return Fingerprint(pdq=upload.pdq, pdq_quality=100)
