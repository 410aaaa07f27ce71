"""Hashes in memory: which originals they name, from when on, and when they say that they cannot tell."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.clients.candidates import Candidates, Originals
from services.clients.database import Database
from services.clients.hashes import HashScan, Pace, Scanned
from services.clients.stoplist import StopList
from services.core.intake.stoplist import StopRules
from tests.clients.examples import fingerprint, pdq_at, picture

BY_HAND = Pace(refresh_s=float("inf"), settle_s=0)
"""The database is looked at when a test says so."""


@pytest.fixture
async def scan(database: Database) -> AsyncIterator[HashScan]:
    scan = HashScan(database, most=1000, pace=BY_HAND)
    yield scan
    await scan.close()


async def look(scan: HashScan) -> None:
    """What was registered before is decided then, and read."""
    for _ in range(2):
        await scan.look()


async def numbers(scan: HashScan, *, distance: int = 90, tenant: str = "acme") -> list[int]:
    found = await scan.near(tenant, [pdq_at(0)], max_distance=distance)
    assert found is not None
    return list(found.near)


async def register(database: Database, *distances: int, tenant: str = "acme", trusted: bool = True) -> None:
    """Originals as far from `pdq_at(0)`. On an empty database the first of all has the number 1."""
    for distance in distances:
        await Candidates(database).register(
            picture(f"{distance}", pdq=pdq_at(distance), trusted=trusted, tenant=tenant)
        )


async def test_originals_are_named_nearest_first_up_to_the_distance(database: Database, scan: HashScan) -> None:
    await register(database, 40, 7, 90, 91, 200)
    await look(scan)
    assert await numbers(scan) == [2, 1, 3]
    assert await numbers(scan, distance=7) == [2]
    assert await numbers(scan, distance=6) == []


async def test_an_original_that_two_orientations_find_is_named_once_by_the_nearer(
    database: Database, scan: HashScan
) -> None:
    await register(database, 40, 50)
    await look(scan)
    found = await scan.near("acme", [pdq_at(0), pdq_at(55)], max_distance=90)
    assert found is not None
    assert found.near == (2, 1)


async def test_no_more_are_named_than_asked_for(database: Database, scan: HashScan) -> None:
    await register(database, *range(30))
    await look(scan)
    found = await scan.near("acme", [pdq_at(0)], max_distance=90, most=3)
    assert found is not None
    assert found.near == (1, 2, 3)


async def test_uploads_bad_hashes_and_others_originals_are_not_named(database: Database, scan: HashScan) -> None:
    await register(database, 5, trusted=False)
    await register(database, 6, tenant="other")
    await Candidates(database).register(picture("rough", quality=20, trusted=True))
    await look(scan)
    assert await numbers(scan) == []
    assert await numbers(scan, tenant="other") == [2]
    assert await numbers(scan, tenant="nobody") == []


async def test_before_it_has_read_the_library_it_cannot_tell(database: Database, scan: HashScan) -> None:
    await register(database, 5)
    assert await scan.near("acme", [pdq_at(0)], max_distance=90) is None
    await scan.look()
    assert await scan.near("acme", [pdq_at(0)], max_distance=90) is None
    await scan.look()
    assert await numbers(scan) == [1]


async def test_the_first_search_has_the_library_read_beside_it(database: Database) -> None:
    await register(database, 5)
    scan = HashScan(database, most=1000, pace=Pace(refresh_s=0, settle_s=0))
    async with asyncio.timeout(20):
        while await scan.near("acme", [pdq_at(0)], max_distance=90) is None:
            await asyncio.sleep(0)
    assert await numbers(scan) == [1]
    await scan.close()


async def test_what_is_new_is_left_to_the_database_until_it_is_read(database: Database, scan: HashScan) -> None:
    await register(database, 5)
    await look(scan)
    await register(database, 6)
    found = await scan.near("acme", [pdq_at(0)], max_distance=90)
    assert found == Scanned((1,), 1)
    candidates = Candidates(database, scan)
    near = await candidates.nearest("acme", fingerprint(), max_distance=90, limit=5)
    assert [each.distance for each in near] == [5, 6]
    await look(scan)
    assert await scan.near("acme", [pdq_at(0)], max_distance=90) == Scanned((1, 2), 2)


async def test_a_registration_that_is_under_way_is_waited_for_although_later_ones_are_done(
    database: Database, scan: HashScan
) -> None:
    await register(database, 5)
    async with database.connection() as slow, slow.transaction():
        await slow.execute(_SLOW_CONTENT)
        await slow.execute(_SLOW_ORIGINAL)
        await register(database, 7)
        for _ in range(3):
            await scan.look()
            assert await scan.near("acme", [pdq_at(0)], max_distance=90) is None
    await look(scan)
    assert await scan.near("acme", [pdq_at(0)], max_distance=90) == Scanned((1, 2, 3), 3)


async def test_a_removed_original_is_not_found_although_it_is_still_in_memory(
    database: Database, scan: HashScan
) -> None:
    await register(database, 5, 6)
    await look(scan)
    await Originals(database).remove("acme", ["id-5"])
    assert await numbers(scan) == [1, 2]
    near = await Candidates(database, scan).nearest("acme", fingerprint(), max_distance=90, limit=5)
    assert [each.distance for each in near] == [6]


async def test_a_library_that_is_too_large_is_left_to_the_graph(database: Database) -> None:
    await register(database, 5, 6, 7)
    small = HashScan(database, most=2, pace=BY_HAND)
    await look(small)
    assert await small.near("acme", [pdq_at(0)], max_distance=90) is None
    near = await Candidates(database, small).nearest("acme", fingerprint(), max_distance=90, limit=5)
    assert [each.distance for each in near] == [5, 6, 7]


async def test_too_many_new_ones_are_left_to_the_graph(
    database: Database,
) -> None:
    scan = HashScan(database, most=1000, pace=replace(BY_HAND, tail_most=0))
    await register(database, 5)
    await look(scan)
    assert await numbers(scan) == [1]
    await register(database, 6)
    await scan.look()  # knows of the new one, and has not read it
    assert await scan.near("acme", [pdq_at(0)], max_distance=90) is None


async def test_originals_that_are_stopped_or_freed_are_read_again(
    database: Database,
) -> None:
    scan = HashScan(database, most=1000, pace=replace(BY_HAND, changed_reload_s=0))
    await register(database, 5, 60)
    await look(scan)
    stops = StopList(database, StopRules())
    entry = await stops.add("acme", "id-5", radius=10, note="a meme's frame")
    assert entry is not None
    await look(scan)
    assert await numbers(scan) == [2]
    await stops.lift("acme", entry.id)
    await look(scan)
    assert await numbers(scan) == [1, 2]


async def test_what_was_erased_leaves_this_memory_too(database: Database) -> None:
    scan = HashScan(database, most=1000, pace=replace(BY_HAND, changed_reload_s=0))
    await register(database, 5, 6)
    await look(scan)
    await Originals(database).remove("acme", ["id-5"])
    async with database.connection() as connection:
        await connection.execute(_ERASED)
    await look(scan)
    assert await numbers(scan) == [2]


async def test_a_library_larger_than_a_statement_reads_is_read_whole(
    database: Database,
) -> None:
    scan = HashScan(database, most=1000, pace=replace(BY_HAND, chunk=7))
    chance = random.Random(3)
    for number in range(40):
        pdq = f"{chance.getrandbits(256):064x}"
        await Candidates(database).register(picture(f"{number}", pdq=pdq, trusted=True))
    await look(scan)
    found = await scan.near("acme", [pdq_at(0)], max_distance=256)
    assert found is not None
    assert sorted(found.near) == list(range(1, 41))


_ERASED = (
    "insert into erasure (tenant, content_mark, erased_by, counts, left_in) values ('acme', 'm', 'me', '{}', '{}')"
)
_SLOW_CONTENT = "insert into content select 'slow', object_key, 1, 1, 1, 'JPEG', pdq, 100 from content"
_SLOW_ORIGINAL = """
insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality)
select tenant, 'slow', true, 'slow', source, registered_at, pdq, 100 from candidate
"""
