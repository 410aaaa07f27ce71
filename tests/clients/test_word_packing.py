"""Packing of visual words: searches find the same before, while and after; nothing is lost where it ends early. Beside
the stream it is done once it is due.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from services.clients.candidates import Candidates, Originals
from services.clients.database import Database
from services.clients.word_packing import LOCK, Packing, WordPacking
from services.clients.words import WordIndex
from services.core.errors import Unavailable
from services.core.intake.words import Shared, VisualWords
from services.stream.packing import Packing as Beside
from tests.clients.examples import picture
from tests.clients.test_words import kept, named, register, words

VOCABULARY = "test-1"


def drawn(seed: int, count: int = 60) -> VisualWords:
    """Words of which some are common; places of all bits."""
    chance = np.random.default_rng(seed)
    numbers = np.minimum(chance.geometric(0.05, (count, 1)), 200) * 1000
    return VisualWords(VOCABULARY, numbers, chance.integers(0, 2**32, count))


async def fill(database: Database, first: int, count: int, tenant: str = "acme") -> None:
    index = WordIndex(database, VOCABULARY)
    for number in range(first, first + count):
        it = picture(f"{tenant}-{number}", trusted=True, tenant=tenant)
        await Candidates(database).register(it)
        await index.add(it, drawn(number))


def rows(shared: Shared) -> list[tuple[int, int, int, float]]:
    columns = (shared.numbers, shared.features, shared.places, shared.weights)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


async def answers(database: Database) -> list[list[tuple[int, int, int, float]]]:
    index = WordIndex(database, VOCABULARY)
    return [rows(await index.shared("acme", drawn(seed))) for seed in (3, 1000)]


async def unpacked_rows(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute("select count(*) as there from visual_word")).fetchone()
    return int(row["there"]) if row else 0


async def test_a_search_answers_the_same_before_and_after_packing_and_between_two_rounds(database: Database) -> None:
    await fill(database, 0, 12)
    await fill(database, 0, 3, tenant="other")
    before = await answers(database)
    assert before[0] and before[1]
    packing = WordPacking(database, moved_at_once=70)
    assert await packing.unpacked() == 15
    assert await packing.pack() == Packing(15 * 60, 15)
    assert (await unpacked_rows(database), await packing.unpacked()) == (0, 0)
    assert await answers(database) == before
    await fill(database, 12, 6)
    mixed = await answers(database)
    assert {seq for seq, *_ in mixed[0]} > {seq for seq, *_ in before[0]}
    assert await packing.pack() == Packing(6 * 60, 6)
    assert await answers(database) == mixed
    assert await kept(database) == 21 * 60


async def test_pictures_whose_numbers_need_more_than_32_bits_are_found_packed(database: Database) -> None:
    await register(database, picture("early", trusted=True), 1)
    async with database.connection() as connection:
        await connection.execute(f"alter sequence candidate_seq_seq restart with {2**32 - 1}")
    for name in ("last", "next"):
        await register(database, picture(name, trusted=True), 1)
    await WordPacking(database).pack()
    index = WordIndex(database, VOCABULARY)
    assert await named(index, "acme", words(1)) == {"id-early": [0], "id-last": [0], "id-next": [0]}
    assert (await index.shared("acme", words(1))).weights.tolist() == pytest.approx([3**-0.5] * 3)
    await Originals(database).remove("acme", ["id-last"])
    assert await named(index, "acme", words(1)) == {"id-early": [0], "id-next": [0]}


async def test_an_original_that_is_worded_late_is_packed_in_its_place_and_can_be_removed(database: Database) -> None:
    late = picture("late", trusted=True)
    await Candidates(database).register(late)
    await register(database, picture("one", trusted=True), 1, 2)
    packing = WordPacking(database)
    await packing.pack()
    await WordIndex(database, VOCABULARY).add(late, words(1, 2))
    await packing.pack()
    await Originals(database).remove("acme", ["id-one"])
    assert await named(WordIndex(database, VOCABULARY), "acme", words(1, 2)) == {"id-late": [0, 1]}
    assert await kept(database) == 2


async def test_a_run_that_ends_early_loses_nothing_and_the_next_one_goes_on(database: Database) -> None:
    await fill(database, 0, 8)
    before = await answers(database)
    packing = WordPacking(database, moved_at_once=50)
    half = asyncio.Event()
    running = asyncio.create_task(packing.pack(moved=lambda postings: half.set()))
    await half.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await packing.unpacked() == 8
    assert await answers(database) == before
    there = await unpacked_rows(database)
    assert 0 < there < 8 * 60
    assert await packing.pack() == Packing(there, 8)
    assert await answers(database) == before


async def test_searches_and_removals_beside_packing_find_every_posting_once(database: Database) -> None:
    await fill(database, 0, 20)
    before = await answers(database)
    packing = WordPacking(database, moved_at_once=40)
    running = asyncio.create_task(packing.pack())
    searches = 0
    while not running.done():
        assert await answers(database) == before
        searches += 1
    assert searches
    assert await running == Packing(20 * 60, 20)
    await fill(database, 20, 20)
    running = asyncio.create_task(packing.pack())
    await Originals(database).remove("acme", [f"id-acme-{number}" for number in range(0, 40, 2)])
    await running
    assert await kept(database) == 20 * 60
    left = {seq for answer in await answers(database) for seq, *_ in answer}
    pictures = await WordIndex(database, VOCABULARY).pictures(sorted(left))
    assert {each.original_id for each in pictures} <= {f"id-acme-{number}" for number in range(1, 40, 2)}
    assert len(pictures) == len(left)


async def test_one_process_packs_at_a_time(database: Database) -> None:
    await fill(database, 0, 2)
    async with database.alone(timeout_s=60) as connection:
        await connection.execute("select pg_advisory_lock(%s)", [LOCK])
        assert await WordPacking(database).pack() is None
    assert await WordPacking(database).pack() == Packing(120, 2)


async def test_it_is_due_once_there_are_enough_of_all(database: Database) -> None:
    assert not await WordPacking(database, least=1).due()
    await fill(database, 0, 4)
    async with database.connection() as connection:
        await connection.execute("analyze worded")
    assert await WordPacking(database, least=4).due()
    assert not await WordPacking(database, least=5).due()
    assert await WordPacking(database, least=1, share=1.0).due()
    await WordPacking(database).pack()
    await fill(database, 4, 1)
    assert not await WordPacking(database, least=1, share=0.5).due()
    assert await WordPacking(database, least=1, share=0.25).due()


async def test_packing_without_the_server_is_unavailable() -> None:
    database = await Database.open("postgresql://127.0.0.1:1/nothing", timeout_s=3)
    with pytest.raises(Unavailable):
        await WordPacking(database).pack()
    await database.close()


async def test_words_are_packed_as_soon_as_there_are_enough_of_them(database: Database) -> None:
    beside = Beside(WordPacking(database, least=3, share=0.0))
    await fill(database, 0, 2)
    await beside.look()
    assert await unpacked_rows(database) == 120
    await fill(database, 2, 1)
    await beside.look()
    assert await unpacked_rows(database) == 0


async def test_a_database_that_is_away_is_looked_at_again_later() -> None:
    database = await Database.open("postgresql://127.0.0.1:1/nothing", timeout_s=3)
    await Beside(WordPacking(database)).look()
    await database.close()
