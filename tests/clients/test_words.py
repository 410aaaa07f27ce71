"""The index of visual words: what an upload shares with the pictures of its tenant, until they are removed."""

from __future__ import annotations

import numpy as np
import pytest

from services.clients.candidates import Candidates, Originals, Picture
from services.clients.database import Database
from services.clients.erasure_tenant import TenantErasures
from services.clients.word_packing import WordPacking
from services.clients.words import MOST_UNPACKED, WordIndex
from services.core.intake.words import STORED, VisualWords
from tests.clients.examples import picture

HIGHEST = 2**32 - 1  # a place with all bits set: unsigned here, signed in the database


def words(*numbers: int, place: int = HIGHEST) -> VisualWords:
    return VisualWords("test-1", np.array(numbers, np.int64)[:, None], np.full(len(numbers), place, np.int64))


async def register(database: Database, it: Picture, *numbers: int, index: WordIndex | None = None) -> None:
    await Candidates(database).register(it)
    await (index or WordIndex(database, "test-1")).add(it, words(*numbers))


async def kept(database: Database) -> int:
    """Postings that are in the database, packed or not."""
    statement = """
        select (select count(*) from visual_word)
            + (select coalesce(sum(octet_length(postings)), 0) / 8 from packed_word) as postings
    """
    async with database.connection() as connection:
        row = await (await connection.execute(statement)).fetchone()
    return int(row["postings"]) if row else 0


async def named(index: WordIndex, tenant: str, upload: VisualWords) -> dict[str, list[int]]:
    """The features that each picture shares with the upload, by the picture's id."""
    shared = await index.shared(tenant, upload)
    found: dict[str, list[int]] = {}
    for number in dict.fromkeys(shared.numbers.tolist()):
        (it,) = await index.pictures([number])
        found[it.original_id] = sorted(shared.features[shared.numbers == number].tolist())
    return found


async def test_shared_words_are_found_with_their_places_and_weigh_more_when_they_are_rare(database: Database) -> None:
    index = WordIndex(database, "test-1")
    await register(database, picture("one", trusted=True), 1, 2, 3)
    await register(database, picture("two", trusted=True), 3, 4)
    assert await named(index, "acme", words(3, 9, 1)) == {"id-one": [0, 2], "id-two": [0]}
    shared = await index.shared("acme", words(3, 9, 1))
    assert set(shared.places.tolist()) == {HIGHEST}
    weight = dict(zip(shared.features.tolist(), shared.weights.tolist(), strict=True))
    assert weight == pytest.approx({0: 0.5**0.5, 2: 1.0})


async def test_the_next_nearest_word_counts_for_the_same_feature(database: Database) -> None:
    await register(database, picture("one", trusted=True), 5)
    upload = VisualWords("test-1", np.array([[4, 5], [6, 7]]), np.array([10, 20]))
    assert await named(WordIndex(database, "test-1"), "acme", upload) == {"id-one": [0]}


async def test_of_a_large_index_the_rarest_words_are_read(database: Database) -> None:
    for number in range(10):
        await register(database, picture(f"{number}", trusted=True), 1, 100 + number, 200 + number // 5)
    await register(database, picture("theirs", trusted=True, tenant="other"), *range(1, 60))
    await WordPacking(database).pack()
    # Five pictures have the word 200, ten the word 1: what is rare comes first, and the common one is too much.
    frugal = WordIndex(database, "test-1", budget=8)
    assert await named(frugal, "acme", words(1, 200, 103)) == {f"id-{n}": [1, 2] if n == 3 else [1] for n in range(5)}
    assert len(await named(WordIndex(database, "test-1", budget=1000), "acme", words(1, 200, 103))) == 10
    # Two features that ask for the same word take it twice; and one word is always read.
    assert await named(frugal, "acme", words(200, 200)) == {f"id-{n}": [0, 1] for n in range(5)}
    assert await named(frugal, "acme", words(200, 200, 103)) == {"id-3": [2]}


async def test_tenants_and_vocabularies_do_not_meet(database: Database) -> None:
    assert await WordIndex(database, "test-1").empty("acme")
    await register(database, picture("one", trusted=True), 1)
    await register(database, picture("two", trusted=True, tenant="other"), 1)
    assert not await WordIndex(database, "test-1").empty("acme")
    assert await named(WordIndex(database, "test-1"), "acme", words(1)) == {"id-one": [0]}
    assert await named(WordIndex(database, "test-2"), "acme", words(1)) == {}


async def test_adding_again_changes_nothing_and_only_the_strongest_words_are_kept(database: Database) -> None:
    it = picture("one", trusted=True)
    await register(database, it, *range(STORED + 20))
    await register(database, it, *range(STORED + 20))
    assert await kept(database) == STORED


@pytest.mark.parametrize("packed", [False, True])
async def test_what_is_removed_takes_its_words_along(database: Database, packed: bool) -> None:
    for name, numbers in (("before", (2, 3)), ("one", (1, 2, 2)), ("two", (2,))):
        await register(database, picture(name, trusted=True), *numbers)
    if packed:
        await WordPacking(database).pack()
    await Originals(database).remove("acme", ["id-one"])
    found = await named(WordIndex(database, "test-1"), "acme", words(1, 2))
    assert found == {"id-before": [1], "id-two": [1]}
    assert await kept(database) == 3


async def test_an_erased_tenants_next_original_is_found_by_its_words(database: Database) -> None:
    index = WordIndex(database, "test-1")
    await register(database, picture("one", trusted=True), 1, index=index)
    await TenantErasures(database).remove_rest("acme")
    assert await named(index, "acme", words(1)) == {}
    await TenantErasures(database).remove_rest("acme")
    await register(database, picture("two", trusted=True), 1, index=index)
    assert await named(index, "acme", words(1)) == {"id-two": [0]}


async def test_a_picture_that_is_not_registered_gets_no_words(database: Database) -> None:
    await WordIndex(database, "test-1").add(picture("nobody", trusted=True), words(1))
    assert await named(WordIndex(database, "test-1"), "acme", words(1)) == {}


async def test_missing_are_the_originals_without_words(database: Database) -> None:
    index = WordIndex(database, "test-1")
    await register(database, picture("one", trusted=True), 1)
    for it in (picture("two", trusted=True), picture("three", trusted=True, tenant="other"), picture("upload")):
        await Candidates(database).register(it)
    assert [each.original_id for each in await index.missing(None, limit=9)] == ["id-two", "id-three"]
    assert [each.original_id for each in await index.missing("acme", limit=9)] == ["id-two"]
    first = await index.missing(None, limit=1)
    assert [each.original_id for each in await index.missing(None, limit=1, but=first)] == ["id-three"]
    assert (await index.missing_count(None), await index.missing_count("acme")) == (2, 1)


async def test_a_picture_without_any_words_is_not_missing(database: Database) -> None:
    index = WordIndex(database, "test-1")
    await register(database, picture("flat", trusted=True))
    assert await index.missing(None, limit=9) == []
    assert await named(index, "acme", words()) == {}


async def test_of_a_word_that_all_have_a_bounded_number_is_read_before_it_is_packed(database: Database) -> None:
    index = WordIndex(database, "test-1")
    await register(database, picture("one", trusted=True), 1)
    async with database.connection() as connection:
        await connection.execute(
            "insert into visual_word select key, seq, place from visual_word cross join generate_series(1, %s)",
            [MOST_UNPACKED + 50],
        )
    assert len((await index.shared("acme", words(1))).numbers) == MOST_UNPACKED
