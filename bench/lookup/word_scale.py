"""What a search by visual words costs at a given size: time, what it finds, disk, and how fast originals are added.

In: an embedded PostgreSQL and photographs. Out: a `WordScale`. The index is filled with pictures whose words are drawn
one by one from those of the photographs, as often as they occur there, at places drawn evenly; so no two of them look
alike, but common words are as common as they are. Wanted pictures lie among them, registered by the service's client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import psycopg
from rich.console import Console
from rich.progress import track

from bench.lookup.filled import POOL_TIMEOUT_S, TENANT, database_url, picture_of
from bench.lookup.methods import VOCABULARY, WORD_PLACES
from services.clients.candidates import Candidates
from services.clients.database import Database
from services.clients.words import WordIndex
from services.core.intake.words import CELLS, SOUGHT, STORED, VisualWords, agreed, words_of
from services.local.postgres import Postgres

Integers = npt.NDArray[np.int64]

WANTED = 100  # pictures that are sought
SHARED = (60, 20)  # words that an upload keeps of the wanted picture: much of it, and an object
FAR = 2**40  # numbers of drawn pictures begin here, far from those of registered ones
CHUNK = 2000  # drawn pictures that are loaded together


@dataclass(frozen=True, slots=True)
class WordScale:
    """Figures of one size. Seconds of the database's part and of counting who agrees, for each search; `found` the
    share of uploads whose original is among the places verified, by the words kept of it; `bytes_of` table and index.
    """

    originals: int
    database_s: list[float]
    agreement_s: list[float]
    found: dict[int, float]
    load_s: float
    build_s: float
    added_per_s: float
    bytes_of: dict[str, int]


def occurring(photos: Sequence[Path], console: Console) -> Integers:
    """The words of photographs, each as often as it occurs."""
    seen = [words_of(path.read_bytes(), VOCABULARY, most=STORED).words[:, 0] for path in track(photos, console=console)]
    return np.concatenate(seen)


async def measured(
    postgres: Postgres, originals: int, occurring_words: Integers, *, seed: int, asked: int, console: Console
) -> WordScale:
    """Fills an index of its own, searches it for `asked` uploads, and drops it."""
    console.print(f"{originals:,} originals: filling the index of words")
    chance = np.random.default_rng(seed)
    url = database_url(postgres, f"words_{originals}_{uuid4().hex[:8]}")
    database = await Database.open(url, pool_size=1, timeout_s=POOL_TIMEOUT_S)
    try:
        await database.migrate()
        index = WordIndex(database, VOCABULARY.name)
        space = await _space(database, index)
        load_s, build_s = _filled(url, space, originals, occurring_words, chance)
        wanted, added_per_s = await _registered(database, index, occurring_words, chance)
        searches = [_upload(each, kept, occurring_words, chance) for each in wanted for kept in SHARED]
        database_s, agreement_s, found = [], [], dict.fromkeys(SHARED, 0)
        for number in track(range(asked), "searches", console=console):
            place = number % len(searches)
            began = perf_counter()
            shared = await index.shared(TENANT, searches[place])
            between = perf_counter()
            votes = agreed(searches[place], shared, most=WORD_PLACES)
            database_s.append(between - began)
            agreement_s.append(perf_counter() - between)
            pictures = await index.pictures([number for number, _ in votes])
            named = [each.original_id for each in pictures]
            found[SHARED[place % len(SHARED)]] += f"wanted-{place // len(SHARED)}" in named
        sizes = await _sizes(database)
    finally:
        await database.close()
    each = asked / len(SHARED)
    shares = {kept: hits / each for kept, hits in found.items()}
    return WordScale(originals, database_s, agreement_s, shares, load_s, build_s, added_per_s, sizes)


async def _space(database: Database, index: WordIndex) -> int:
    await index.empty(TENANT)
    async with database.connection() as connection:
        row = await (await connection.execute("select number from word_space")).fetchone()
    return int(row["number"]) if row else 0


def _filled(url: str, space: int, originals: int, words: Integers, chance: np.random.Generator) -> tuple[float, float]:
    """Seconds of loading all drawn words, and of building their index anew."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop index visual_word_of_key")
        began = perf_counter()
        for start in range(0, originals, CHUNK):
            count = min(CHUNK, originals - start)
            with connection.cursor().copy("copy visual_word (key, seq, place) from stdin (format binary)") as copy:
                copy.write(_rows(space, FAR + start, count, words, chance))
        loaded = perf_counter()
        connection.execute("set maintenance_work_mem = '2GB'")
        connection.execute("create index visual_word_of_key on visual_word (key) include (seq, place)")
        built = perf_counter()
        connection.execute("vacuum analyze visual_word")
    return loaded - began, built - loaded


def _rows(space: int, first: int, count: int, words: Integers, chance: np.random.Generator) -> bytes:
    """Drawn pictures in PostgreSQL's binary COPY format."""
    rows = np.zeros(count * STORED, _ROW)
    rows["fields"], rows["length"], rows["length2"], rows["length3"] = 3, 8, 8, 4
    rows["key"] = (space << 32) + chance.choice(words, len(rows))
    rows["seq"] = np.repeat(np.arange(first, first + count), STORED)
    rows["place"] = chance.integers(-(2**31), 2**31, len(rows))
    return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"


async def _registered(
    database: Database, index: WordIndex, words: Integers, chance: np.random.Generator
) -> tuple[list[VisualWords], float]:
    """The wanted pictures' words, and how many pictures a second were added with theirs, one at a time."""
    made = [_drawn(words, STORED, 1, chance, across=128) for _ in range(WANTED)]
    pictures = [picture_of(number, f"wanted-{number}", bytes(32)) for number in range(WANTED)]
    for picture in pictures:
        await Candidates(database).register(picture)
    began = perf_counter()
    for picture, each in zip(pictures, made, strict=True):
        await index.add(picture, each)
    return made, WANTED / (perf_counter() - began)


def _drawn(words: Integers, count: int, cells: int, chance: np.random.Generator, *, across: int = 256) -> VisualWords:
    """A picture's words, all within `across` 256ths of its width."""
    places = chance.integers(0, across << 24, count)
    return VisualWords(VOCABULARY.name, chance.choice(words, (count, cells)), places)


def _upload(wanted: VisualWords, kept: int, words: Integers, chance: np.random.Generator) -> VisualWords:
    """A drawn upload of which `kept` features are the wanted picture's, an eighth of its width to the right."""
    upload = _drawn(words, SOUGHT, CELLS, chance)
    theirs = chance.choice(len(wanted.words), kept, replace=False)
    ours = chance.choice(SOUGHT, kept, replace=False)
    upload.words[ours, 0] = wanted.words[theirs, 0]
    upload.places[ours] = wanted.places[theirs] + (32 << 24)
    return upload


async def _sizes(database: Database) -> dict[str, int]:
    async with database.connection() as connection:
        row = await (await connection.execute(_SIZES)).fetchone()
    return dict(row or {})


_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(("length", ">i4"), ("key", ">i8")),
        *(("length2", ">i4"), ("seq", ">i8")),
        *(("length3", ">i4"), ("place", ">i4")),
    ]
)
_SIZES = """
select pg_table_size('visual_word') as words, pg_relation_size('visual_word_of_key') as index,
       pg_total_relation_size('worded') as worded
"""
