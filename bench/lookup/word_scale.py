"""What a search by visual words costs at a given size: time, what it finds, disk, and how fast originals are added.

In: an embedded PostgreSQL and photographs. Out: a `WordScale`. The index is filled with pictures whose words are drawn
one by one from those of the photographs, as often as they occur there, at places drawn evenly; so no two of them look
alike, but common words are as common as they are. They are packed by the service's client or, of large indexes, drawn
as lists; so many more are not packed as there are at most. Wanted pictures lie among them, registered by the client.
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
from bench.lookup.memory import Peak
from bench.lookup.methods import VOCABULARY, WORD_PLACES
from bench.lookup.word_filling import FAR, Filler
from services.clients.candidates import Candidates
from services.clients.database import Database
from services.clients.word_packing import LEAST, SHARE, WordPacking
from services.clients.words import WordIndex
from services.core.intake.words import CELLS, SOUGHT, STORED, VisualWords, agreed, words_of
from services.local.postgres import Postgres

Integers = npt.NDArray[np.int64]

WANTED = 100  # pictures that are sought
SHARED = (60, 20)  # words that an upload keeps of the wanted picture: much of it, and an object


@dataclass(frozen=True, slots=True)
class WordScale:
    """Figures of one size. Seconds of the database's part and of counting who agrees, for each search; `found` the
    share of uploads whose original is among the places verified, by the words kept of it; `pack_s` None where lists
    were drawn; `bytes_of` tables with their indexes.
    """

    originals: int
    database_s: list[float]
    agreement_s: list[float]
    found: dict[int, float]
    unpacked: int
    load_s: float
    pack_s: float | None
    added_per_s: float
    bytes_of: dict[str, int]
    worded_bytes: int
    """Of one picture: which words it has."""
    server_bytes: int
    """All processes of the server while it was searched."""


def occurring(photos: Sequence[Path], console: Console) -> Integers:
    """The words of photographs, each as often as it occurs."""
    seen = [words_of(path.read_bytes(), VOCABULARY, most=STORED).words[:, 0] for path in track(photos, console=console)]
    return np.concatenate(seen)


async def measured(
    postgres: Postgres,
    originals: int,
    occurring_words: Integers,
    *,
    seed: int,
    asked: int,
    lists: bool,
    console: Console,
) -> WordScale:
    """Fills an index of its own, with `lists` drawn or packed, and searches it for `asked` uploads."""
    console.print(f"{originals:,} originals: filling the index of words")
    chance = np.random.default_rng(seed)
    url = database_url(postgres, f"words_{originals}_{uuid4().hex[:8]}")
    database = await Database.open(url, pool_size=1, timeout_s=POOL_TIMEOUT_S)
    try:
        await database.migrate()
        index = WordIndex(database, VOCABULARY.name)
        space = await _space(database, index)
        filler = Filler(url, space, occurring_words, chance, console)
        load_s, pack_s = _lists(filler, originals) if lists else await _packed(database, filler, originals)
        unpacked = min(originals, max(LEAST, round(originals * SHARE)))
        filler.rows(FAR + originals, unpacked)
        wanted, added_per_s = await _registered(database, index, occurring_words, chance)
        searches = [_upload(each, kept, occurring_words, chance) for each in wanted for kept in SHARED]
        database_s, agreement_s, found = [], [], dict.fromkeys(SHARED, 0)
        with Peak(postgres) as peak:
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
    return WordScale(
        originals=originals,
        database_s=database_s,
        agreement_s=agreement_s,
        found={kept: hits / each for kept, hits in found.items()},
        unpacked=unpacked,
        load_s=load_s,
        pack_s=pack_s,
        added_per_s=added_per_s,
        worded_bytes=sizes.pop("worded"),
        bytes_of=sizes,
        server_bytes=peak.together,
    )


async def _space(database: Database, index: WordIndex) -> int:
    await index.empty(TENANT)
    async with database.connection() as connection:
        row = await (await connection.execute("select number from word_space")).fetchone()
    return int(row["number"]) if row else 0


async def _packed(database: Database, filler: Filler, originals: int) -> tuple[float, float]:
    """Seconds of loading drawn words, and of packing them."""
    began = perf_counter()
    filler.rows(FAR, originals)
    loaded = perf_counter()
    await WordPacking(database).pack()
    packed = perf_counter()
    with psycopg.connect(filler.url, autocommit=True) as connection:
        connection.execute("vacuum full visual_word")
        connection.execute("vacuum analyze packed_word")
    return loaded - began, packed - loaded


def _lists(filler: Filler, originals: int) -> tuple[float, None]:
    """Seconds of loading lists."""
    began = perf_counter()
    filler.lists(FAR, originals)
    return perf_counter() - began, None


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


_SIZES = """
select pg_total_relation_size('packed_word') as packed, pg_total_relation_size('visual_word') as "not packed yet",
       (select avg(pg_column_size(keys)) from worded)::integer as worded
"""
