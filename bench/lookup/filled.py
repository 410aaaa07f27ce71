"""An index of a wanted size on an embedded PostgreSQL, filled once and kept.

In: a data folder and drawn pictures. Out: a database `lookup_<N>` in which they are registered, trusted, of one tenant:
all vectors lie in one graph, which is the hardest case for it. What filling took stands in the database beside them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.lookup.drawn import Drawn
from bench.lookup.memory import Peak
from services.clients.candidates import Candidates, Picture, bits
from services.clients.database import Database
from services.clients.embedders import Effort, Embedders
from services.clients.embeddings import Embedded, Embeddings
from services.core.events import Fingerprint, StoredImage
from services.core.intake.keys import image_key
from services.core.intake.regions import Embedding
from services.local.postgres import Postgres

TENANT = "bench"
EMBEDDER = "drawn-1"
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
ADDED = 200  # pictures that are added one at a time once the index is there
BYTES_A_VECTOR = 1500  # of memory while a graph is built: the vector, its 2 x 16 neighbours, and what they cost
MOST_MEMORY_MB = 9000  # that building may take
POOL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Filling:
    """What it took: seconds of loading and of building the graphs, apart; pictures a second added one at a time
    afterwards, with their hash alone and with vectors as well; `peak_bytes` is the largest process of the server while
    graphs were built, shared memory included. None where no vectors were asked for."""

    originals: int
    seed: int
    hashes_load_s: float
    hashes_build_s: float
    vectors_load_s: float | None
    vectors_build_s: float | None
    hashes_added_per_s: float
    both_added_per_s: float | None
    peak_bytes: int


@contextmanager
def server(folder: Path, shared_buffers: str) -> Iterator[Postgres]:
    """The PostgreSQL of a data folder, until the block ends."""
    postgres = Postgres(folder / "postgres", settings={"shared_buffers": shared_buffers, "max_wal_size": "4GB"})
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop()


def database_url(postgres: Postgres, originals: int | str) -> str:
    """The database of an index of that size, or name."""
    return urlunsplit(urlsplit(postgres.dsn)._replace(path=f"/lookup_{originals}"))


async def filled(
    postgres: Postgres, url: str, drawn: Drawn, originals: int, *, seed: int, workers: int, vectors: bool
) -> Filling:
    """Fills an index with the first `originals` of the drawn pictures, and adds `ADDED` more; or, where that was done
    before, says what it took then."""
    known = _known(postgres, url, originals, seed)
    if known is not None:
        return known
    database = await Database.open(url, pool_size=1, timeout_s=POOL_TIMEOUT_S)
    try:
        await database.migrate()
        with Peak(postgres) as peak:
            load_s, build_s = _hashes(url, drawn, originals, _memory_mb(originals))
            took = await _vectors(database, drawn, originals, workers) if vectors else (None, None)
        hashes_per_s, both_per_s = await _added(database, drawn, originals, vectors=vectors)
    finally:
        await database.close()
    filling = Filling(
        originals=originals,
        seed=seed,
        hashes_load_s=load_s,
        hashes_build_s=build_s,
        vectors_load_s=took[0],
        vectors_build_s=took[1],
        hashes_added_per_s=hashes_per_s,
        both_added_per_s=both_per_s,
        peak_bytes=peak.largest,
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
        connection.execute("create table bench_filling (filling text not null)")
        connection.execute("insert into bench_filling values (%s)", [json.dumps(asdict(filling))])
    return filling


def digest(number: int) -> str:
    """The SHA-256 of a drawn picture."""
    return sha256(b"%d" % number).hexdigest()


def _known(postgres: Postgres, url: str, originals: int, seed: int) -> Filling | None:
    """What filling took when it was done; None, and nothing left, where it was not, not wholly, or otherwise."""
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        name = urlsplit(url).path.removeprefix("/")
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            return None
        with psycopg.connect(url, autocommit=True) as inside:
            found = inside.execute("select to_regclass('bench_filling')").fetchone()
            if found and found[0]:
                row = inside.execute("select filling from bench_filling").fetchone()
                known = Filling(**json.loads(row[0])) if row else None
                if known and (known.originals, known.seed) == (originals, seed):
                    return known
        connection.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
    return None


def _hashes(url: str, drawn: Drawn, originals: int, memory_mb: int) -> tuple[float, float]:
    """Registers pictures by COPY, their graph left out, then builds it. Seconds of both."""
    began = perf_counter()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        found = cursor.execute(
            "select indexname, indexdef from pg_indexes where tablename = 'candidate' and indexdef like '%hnsw%'"
        ).fetchall()
        for name, _ in found:
            cursor.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
        for statement, row in ((_COPY_CONTENT, _content), (_COPY_CANDIDATE, _candidate)):
            with cursor.copy(statement) as copy:
                for number in range(originals):
                    copy.write_row(row(number, drawn.pdq[number].tobytes()))
        connection.commit()
        loaded = perf_counter()
        cursor.execute("select set_config('maintenance_work_mem', %s, false)", [f"{memory_mb}MB"])
        for _, definition in found:
            cursor.execute(definition)
        cursor.execute("analyze candidate")
    return loaded - began, perf_counter() - loaded


async def _vectors(database: Database, drawn: Drawn, originals: int, workers: int) -> tuple[float, float]:
    """Loads the vectors as a library is embedded. Seconds of loading, and of building the graph."""
    await Embedders(database).prepare(EMBEDDER, drawn.vectors.shape[2])
    loaded = began = perf_counter()

    async def rows() -> AsyncIterator[Embedded]:
        nonlocal loaded
        for number in range(originals):
            yield _embedded(number, drawn)
        loaded = perf_counter()

    await Embeddings(database).load(EMBEDDER, rows(), Effort(_memory_mb(originals), workers))
    await Embedders(database).activate(EMBEDDER)
    return loaded - began, perf_counter() - loaded


async def _added(database: Database, drawn: Drawn, originals: int, *, vectors: bool) -> tuple[float, float | None]:
    """Pictures a second, one after the other, each in its own transaction: the hash alone, and with its vectors."""
    candidates, embeddings = Candidates(database), Embeddings(database)
    hashes_s = vectors_s = 0.0
    for number in range(originals, originals + ADDED):
        began = perf_counter()
        await candidates.register(picture_of(number, f"original-{number}", drawn.pdq[number].tobytes()))
        registered = perf_counter()
        if vectors:
            await embeddings.add([_embedded(number, drawn)])
        hashes_s += registered - began
        vectors_s += perf_counter() - registered
    return ADDED / hashes_s, ADDED / (hashes_s + vectors_s) if vectors else None


def _memory_mb(originals: int) -> int:
    return min(MOST_MEMORY_MB, max(256, originals * 5 * BYTES_A_VECTOR // 2**20))


_COPY_CONTENT = "copy content (sha256, object_key, size_bytes, width, height, format, pdq, pdq_quality) from stdin"
_COPY_CANDIDATE = (
    "copy candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality) from stdin"
)


def _content(number: int, pdq: bytes) -> tuple[Any, ...]:
    key = digest(number)
    return key, image_key(key), 100_000, 1024, 683, "JPEG", pdq.hex(), 100


def _candidate(number: int, pdq: bytes) -> tuple[Any, ...]:
    return TENANT, digest(number), True, f"original-{number}", "bench", MADE_AT, bits(pdq.hex()), 100


def picture_of(number: int, name: str, pdq: bytes) -> Picture:
    """A drawn picture as it is registered, by its hash of 32 bytes."""
    key = digest(number)
    return Picture(
        tenant=TENANT,
        original_id=name,
        image=StoredImage(
            object_key=image_key(key), sha256=key, size_bytes=100_000, width=1024, height=683, format="JPEG"
        ),
        fingerprint=Fingerprint(pdq=pdq.hex(), pdq_quality=100),
        trusted=True,
        source="bench",
        registered_at=MADE_AT,
    )


def _embedded(number: int, drawn: Drawn) -> Embedded:
    vectors = drawn.vectors[number].astype("float32")
    return Embedded(TENANT, digest(number), True, Embedding(EMBEDDER, vectors))
