"""The index of pictures: what is registered is found, at the right distance, in the right order, for its tenant."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.cli.originals_list import pages
from services.clients.candidates import _NEAREST, NEWEST, Candidates, Geometries, Geometry, Originals, Picture
from services.clients.database import Database
from services.clients.hashes import HashScan, Pace, Scanned
from services.clients.late import Uploads
from services.core.intake.fingerprint import orientations
from tests.clients.examples import NOON, fingerprint, pdq_at, picture, sha256_of, stored

ROUGH = f"{random.Random(7).getrandbits(256):064x}"
"""A hash like a photograph's: far from itself in any other orientation."""


class Eager(HashScan):
    """Knows everything before it answers."""

    async def near(self, *asked: Any, **options: Any) -> Scanned | None:
        for _ in range(2):
            await self.look()
        return await super().near(*asked, **options)


@pytest.fixture(params=["graph", "scan"])
async def candidates(database: Database, request: pytest.FixtureRequest) -> AsyncIterator[Candidates]:
    """Both ways of finding, held to the same promises."""
    if request.param == "graph":
        yield Candidates(database)
        return
    scan = Eager(database, most=1000, pace=Pace(settle_s=0))
    yield Candidates(database, scan)
    await scan.close()


async def ids(candidates: Candidates, *, tenant: str = "acme", quality: int = 100, **asked: object) -> list[str]:
    """The ids of what is near `pdq_at(0)`."""
    options: dict[str, object] = {"max_distance": 90, "limit": 5, **asked}
    found = await candidates.nearest(tenant, fingerprint(quality=quality), **options)  # type: ignore[arg-type]
    return [neighbour.picture.original_id for neighbour in found]


async def test_a_registered_picture_comes_back_whole_with_its_distance(candidates: Candidates) -> None:
    registered = picture("a", pdq=pdq_at(17), trusted=True)
    await candidates.register(registered)
    (found,) = await candidates.nearest("acme", fingerprint(), max_distance=90, limit=5)
    assert found.picture == registered
    assert found.distance == 17


async def test_pictures_beyond_the_distance_are_not_found(candidates: Candidates) -> None:
    for distance in (10, 30, 31, 200):
        await candidates.register(picture(f"{distance}", pdq=pdq_at(distance)))
    assert await ids(candidates, max_distance=30) == ["id-10", "id-30"]


async def test_an_upload_that_is_withdrawn_is_not_found_unless_others_had_the_same_content(
    candidates: Candidates, database: Database
) -> None:
    alone, shared = picture("alone", original_id="u-1"), picture("shared", original_id="u-2")
    trusted = picture("alone", original_id="u-1", trusted=True)
    for each in (alone, shared, trusted):
        await candidates.register(each)
    for upload_id, word in (("u-1", "alone"), ("u-2", "shared"), ("u-3", "shared")):
        await Uploads(database).remember("acme", upload_id, sha256_of(word))
    await candidates.withdraw(alone)
    await candidates.withdraw(shared)
    assert await ids(candidates, trusted=False) == ["u-2"]
    assert await ids(candidates, trusted=True) == ["u-1"]


async def test_another_tenants_pictures_are_not_found(candidates: Candidates) -> None:
    await candidates.register(picture("theirs", tenant="other"))
    assert await ids(candidates) == []


async def test_registering_a_picture_again_changes_nothing(candidates: Candidates) -> None:
    for _ in range(3):
        await candidates.register(picture("a"))
    assert await ids(candidates) == ["id-a"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_earliest_registration_of_a_content_stays_whatever_the_order(
    candidates: Candidates, order: tuple[int, ...]
) -> None:
    registrations = [picture("a", original_id=f"u-{minute}", minutes=minute) for minute in range(3)]
    for number in order:
        await candidates.register(registrations[number])
    (found,) = await candidates.nearest("acme", fingerprint(), max_distance=0, limit=5)
    assert found.picture == registrations[0]


async def test_a_content_that_is_also_trusted_is_listed_once_as_trusted(candidates: Candidates) -> None:
    await candidates.register(picture("a", original_id="u-1"))
    await candidates.register(picture("a", original_id="o-1", trusted=True, minutes=5))
    assert await ids(candidates) == ["o-1"]
    assert await ids(candidates, trusted=False) == ["u-1"]


async def test_a_viral_picture_does_not_crowd_out_the_trusted_original(candidates: Candidates) -> None:
    await candidates.register(picture("original", pdq=pdq_at(20), trusted=True, minutes=1000))
    for number in range(40):
        await candidates.register(picture(f"copy {number}", pdq=pdq_at(1, start=number), minutes=number))
    found = await ids(candidates, limit=3)
    assert "id-original" in found
    assert len(found) == 3


async def test_equally_near_pictures_come_trusted_first_then_oldest(candidates: Candidates) -> None:
    await candidates.register(picture("young", minutes=9))
    await candidates.register(picture("old", minutes=1))
    await candidates.register(picture("trusted", trusted=True, minutes=10))
    assert await ids(candidates) == ["id-trusted", "id-old", "id-young"]


@pytest.mark.parametrize(("ours", "theirs"), [(20, 100), (100, 20), (20, 20)])
async def test_a_hash_of_low_quality_matches_only_itself(candidates: Candidates, ours: int, theirs: int) -> None:
    await candidates.register(picture("near", pdq=pdq_at(2), quality=theirs))
    await candidates.register(picture("same", pdq=pdq_at(0), quality=theirs))
    assert await ids(candidates, quality=ours) == ["id-same"]


@pytest.mark.parametrize("way", range(8))
async def test_a_picture_is_found_by_its_hash_in_any_orientation(candidates: Candidates, way: int) -> None:
    await candidates.register(picture("a", pdq=ROUGH, trusted=True))
    await candidates.register(picture("b", pdq=pdq_at(128), trusted=True))
    changed = f"{int(orientations(ROUGH)[way], 16) ^ 0b1101:064x}"
    (found,) = await candidates.nearest("acme", fingerprint(changed), max_distance=40, limit=5, ways=8)
    assert (found.picture.original_id, found.distance) == ("id-a", 3)
    as_it_is = await candidates.nearest("acme", fingerprint(changed), max_distance=40, limit=5, ways=1)
    assert len(as_it_is) == (1 if way == 0 else 0)


async def test_a_content_that_is_near_in_several_orientations_comes_once_at_its_least_distance(
    candidates: Candidates,
) -> None:
    plain, mirrored = orientations(pdq_at(0))[:2]
    between = f"{int(plain, 16) ^ (int(plain, 16) ^ int(mirrored, 16)) & (2**100 - 1):064x}"  # 50 bits from the one
    for trusted in (True, False):
        await candidates.register(picture("a", pdq=between, trusted=trusted, original_id=f"o-{trusted}"))
    await candidates.register(picture("b", pdq=pdq_at(60)))
    found = await candidates.nearest("acme", fingerprint(), max_distance=128, limit=5, ways=8)
    assert [(each.picture.original_id, each.distance) for each in found] == [("o-True", 50), ("id-b", 60)]


async def test_mirrored_neighbours_do_not_crowd_out_the_other_kind(candidates: Candidates) -> None:
    mirrored = orientations(ROUGH)[1]
    await candidates.register(picture("original", pdq=f"{int(ROUGH, 16) ^ (2**40 - 1):064x}", trusted=True))
    for number in range(40):
        await candidates.register(picture(f"copy {number}", pdq=f"{int(mirrored, 16) ^ 1 << number:064x}"))
    found = await candidates.nearest("acme", fingerprint(ROUGH), max_distance=90, limit=3, ways=8)
    assert [each.distance for each in found] == [1, 1, 40]
    assert found[-1].picture.original_id == "id-original"


@pytest.mark.parametrize(("ours", "theirs"), [(20, 100), (100, 20), (20, 20)])
async def test_a_hash_of_low_quality_is_not_sought_mirrored(candidates: Candidates, ours: int, theirs: int) -> None:
    await candidates.register(picture("mirrored", pdq=orientations(ROUGH)[1], quality=theirs))
    upload = fingerprint(ROUGH, quality=ours)
    assert await candidates.nearest("acme", upload, max_distance=90, limit=5, ways=8) == []


async def test_a_search_can_be_repeated_on_the_index_as_it_was(candidates: Candidates) -> None:
    assert await candidates.index_version() == "pdq-1/0"
    await candidates.register(picture("a"))
    before = await candidates.index_version()
    await candidates.register(picture("b"))
    assert await candidates.index_version() != before
    at_most_seq = int(before.removeprefix("pdq-1/"))
    assert await ids(candidates, at_most_seq=at_most_seq) == ["id-a"]


async def test_content_is_known_to_every_tenant_once_it_was_registered(candidates: Candidates) -> None:
    assert await candidates.known(sha256_of("a")) is None
    registered = picture("a", pdq=pdq_at(5))
    await candidates.register(registered)
    assert await candidates.known(sha256_of("a")) == (registered.image, registered.fingerprint)


async def test_a_source_with_a_nul_character_can_be_stored(candidates: Candidates) -> None:
    odd = picture("a")
    await candidates.register(
        Picture(odd.tenant, odd.original_id, odd.image, odd.fingerprint, True, "a\x00gency", odd.registered_at)
    )
    (found,) = await candidates.nearest("acme", fingerprint(), max_distance=0, limit=1)
    assert found.picture.source == "agency"


async def test_registering_the_same_content_at_once_makes_one_row(candidates: Candidates, database: Database) -> None:
    await asyncio.gather(*(candidates.register(picture("a", tenant=f"t{number % 2}")) for number in range(16)))
    async with database.connection() as connection:
        rows = await (await connection.execute("select tenant from candidate order by tenant")).fetchall()
    assert [row["tenant"] for row in rows] == ["t0", "t1"]


async def test_a_small_tenant_finds_its_pictures_among_thousands_of_others(
    candidates: Candidates, database: Database
) -> None:
    """The graph is scanned until enough of its answers pass the tenant filter, and the plan uses the graph at all."""
    await fill(database, tenant="crowd", pictures=3000)
    hidden = [picture(f"{number}", tenant="small", pdq=pdq_at(60 + number)) for number in range(3)]
    for each in hidden:
        await candidates.register(each)
    assert await ids(candidates, tenant="small", max_distance=256) == [each.original_id for each in hidden]
    async with database.connection() as connection:
        await connection.execute("analyze candidate")
        asked = {"tenant": "crowd", "ways": ["01" * 128, "0011" * 64], "pdq": "01" * 128, "kinds": [True, False]}
        bounds = {"max_distance": 90, "limit": 5, "at_most_seq": NEWEST}
        stops = {"sha256": sha256_of("an upload"), "stopped_distance": 31}
        plan = await (await connection.execute("explain " + _NEAREST, asked | bounds | stops)).fetchall()
    assert any("Index Scan using candidate_upload_pdq" in row["QUERY PLAN"] for row in plan)


async def fill(database: Database, *, tenant: str, pictures: int) -> None:
    """Pictures with random hashes, always the same ones."""
    generator = random.Random(1)
    rows = [(f"{generator.getrandbits(256):064x}", f"{generator.getrandbits(256):0256b}") for _ in range(pictures)]
    async with database.connection() as connection, connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(
            "insert into content (sha256, object_key, size_bytes, width, height, format, pdq, pdq_quality) "
            "values (%s, 'k', 1, 1, 1, 'PNG', 'x', 100)",
            [(sha256,) for sha256, _ in rows],
        )
        await cursor.executemany(
            "insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality) "
            f"values ('{tenant}', %s, false, 'id', 'upload', now(), %s::bit(256), 100)",
            rows,
        )


async def test_verified_pairs_are_remembered_per_method_and_misfits_too(database: Database) -> None:
    geometries = Geometries(database, method="sift-1")
    upload, fits, misfit = sha256_of("u"), stored("fits").sha256, stored("misfit").sha256
    verified = {
        (upload, fits): Geometry(81, 0.93, (1.0, 0.0, 3.5, 0.0, 1.0, -2.25, 1e-7, 0.0, 1.0)),
        (upload, misfit): Geometry(0, 0.0, None),
    }
    await geometries.remember(verified)
    await geometries.remember({(upload, misfit): Geometry(99, 1.0, None)})  # what is there stays
    assert await geometries.known([*verified, (upload, sha256_of("never seen"))]) == verified
    assert await geometries.known([]) == {}
    assert await Geometries(database, method="sift-2").known(verified) == {}


async def originals_of(database: Database, *, page: int = 2, **asked: Any) -> list[str]:
    """The ids of a tenant's trusted originals, read page by page."""
    listed = pages(Originals(database), asked.pop("tenant", "acme"), page=page, **asked)
    return [each.original_id async for found in listed for each in found]


@pytest.mark.parametrize("page", [1, 2, 3, 5, 100])
async def test_trusted_originals_are_listed_newest_first_each_once_whatever_the_page(
    candidates: Candidates, database: Database, page: int
) -> None:
    for word, minutes in (("old", 1), ("new", 9), ("same-a", 5), ("same-b", 5), ("same-c", 5)):
        await candidates.register(picture(word, trusted=True, minutes=minutes))
    await candidates.register(picture("an upload", minutes=10))
    listed = await originals_of(database, page=page)
    assert (listed[0], listed[-1]) == ("id-new", "id-old")
    assert sorted(listed[1:-1]) == ["id-same-a", "id-same-b", "id-same-c"]
    assert await originals_of(database, page=page, limit=3) == listed[:3]


async def test_a_listed_original_comes_back_whole(candidates: Candidates, database: Database) -> None:
    registered = picture("a", trusted=True)
    await candidates.register(registered)
    assert await Originals(database).page("acme", limit=5) == [registered]


async def test_trusted_originals_are_listed_and_counted_for_one_tenant_and_source(
    candidates: Candidates, database: Database
) -> None:
    await candidates.register(picture("a", trusted=True, minutes=3))
    await candidates.register(replace(picture("b", trusted=True, minutes=7), source="agency"))
    await candidates.register(picture("theirs", trusted=True, tenant="other"))
    originals = Originals(database)
    assert await originals_of(database) == ["id-b", "id-a"]
    assert await originals_of(database, source="library") == ["id-a"]
    assert await originals_of(database, tenant="other") == ["id-theirs"]
    assert await originals.count("acme") == (2, NOON + timedelta(minutes=7))
    assert await originals.count("acme", source="library") == (1, NOON + timedelta(minutes=3))
    assert await originals.count("nobody") == (0, None)


async def test_an_original_that_is_removed_is_not_found_until_it_is_registered_again(
    candidates: Candidates, database: Database
) -> None:
    for word in ("a", "b", "c"):
        await candidates.register(picture(word, trusted=True))
    originals = Originals(database)
    assert await originals.remove("acme", ["id-a", "id-c", "id-unknown"]) == {"id-a", "id-c"}
    assert await ids(candidates) == ["id-b"]
    assert await originals_of(database) == ["id-b"]
    assert await originals.remove("acme", ["id-a", "id-c"]) == set()
    await candidates.register(picture("a", trusted=True, minutes=1))
    assert sorted(await ids(candidates)) == ["id-a", "id-b"]


async def test_removing_an_original_leaves_the_upload_of_the_same_content_and_other_tenants_alone(
    candidates: Candidates, database: Database
) -> None:
    await candidates.register(picture("a", original_id="same-id", trusted=True))
    await candidates.register(picture("a", original_id="same-id"))
    await candidates.register(picture("a", original_id="same-id", trusted=True, tenant="other"))
    assert await Originals(database).remove("acme", ["same-id"]) == {"same-id"}
    assert await ids(candidates, trusted=True) == []
    assert await ids(candidates, trusted=False) == ["same-id"]
    assert await ids(candidates, trusted=True, tenant="other") == ["same-id"]
    assert await Originals(database).remove("acme", ["same-id"]) == set()  # an upload is no original
    assert await ids(candidates, trusted=False) == ["same-id"]


async def test_a_page_of_a_large_library_is_read_by_index(database: Database) -> None:
    await fill(database, tenant="crowd", pictures=3000)
    async with database.connection() as connection:
        await connection.execute("update candidate set trusted = true")
        await connection.execute("analyze candidate")
        plan = await (
            await connection.execute(
                "explain select sha256 from candidate where tenant = 'crowd' and trusted "
                "and (registered_at, sha256) < (now(), '8') order by registered_at desc, sha256 desc limit 10"
            )
        ).fetchall()
    assert any("candidate_trusted_newest" in row["QUERY PLAN"] for row in plan)
