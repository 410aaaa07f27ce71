"""The stop list: what is stopped, when, for whom, and what is found nevertheless."""

from __future__ import annotations

import pytest

from services.clients.candidates import Candidates, Exempt, Picture
from services.clients.database import Database
from services.clients.stoplist import StopList
from services.core.intake.stoplist import StopRules, why_stopped
from tests.clients.examples import fingerprint, pdq_at, picture, sha256_of

RULES = StopRules(flat_quality=10, crowd=5, crowd_distance=72, copy_distance=31)


@pytest.fixture
def stops(database: Database) -> StopList:
    return StopList(database, RULES)


async def register(database: Database, *pictures: Picture, rules: StopRules = RULES) -> list[str | None]:
    """Registers pictures one after the other; why each was stopped then."""
    reasons: list[str | None] = []
    for each in pictures:
        await Candidates(database).register(each)
        reasons.append(await StopList(database, rules).consider(each))
    return reasons


def crowd(number: int, *, trusted: bool = True) -> list[Picture]:
    """Pictures 40 bits from `pdq_at(0)` and up to 80 from each other."""
    return [picture(f"c-{i}", pdq=pdq_at(40, start=4 * i), trusted=trusted) for i in range(number)]


async def found(database: Database, *, pdq: str | None = None, quality: int = 100, **asked: object) -> set[str]:
    options: dict[str, object] = {"max_distance": 90, "limit": 20, **asked}
    near = await Candidates(database).nearest("acme", fingerprint(pdq, quality=quality), **options)  # type: ignore[arg-type]
    return {neighbour.picture.original_id for neighbour in near}


@pytest.mark.parametrize(
    ("quality", "neighbours", "reason"),
    [(9, 0, "flat"), (10, 0, None), (100, 5, None), (100, 6, "crowded"), (9, 99, "flat")],
)
def test_a_picture_is_stopped_for_a_reason(quality: int, neighbours: int, reason: str | None) -> None:
    assert why_stopped(quality, neighbours, RULES) == reason


def test_without_a_crowd_nothing_is_crowded() -> None:
    assert why_stopped(100, 10_000, StopRules(crowd=0)) is None


async def test_flat_pictures_are_stopped_at_once_and_found_by_their_very_bytes_only(
    database: Database, stops: StopList
) -> None:
    assert await register(database, *(picture(f"blank-{i}", quality=3, trusted=True) for i in range(3))) == ["flat"] * 3
    assert await found(database, quality=3) == set()
    assert await found(database, quality=3, exempt=Exempt(sha256_of("blank-1"))) == {"id-blank-1"}
    (entry,) = await stops.entries("acme")
    assert (entry.reason, entry.pictures, entry.pdq, entry.radius) == ("flat", 3, None, None)
    assert await stops.entries("other") == []


async def test_a_crowded_neighbourhood_is_stopped_as_a_whole_and_what_comes_later_too(
    database: Database, stops: StopList
) -> None:
    reasons = await register(database, *crowd(8))
    assert reasons[:5] == [None] * 5
    assert reasons[-1] == "crowded"
    entries = await stops.entries("acme")
    assert {(entry.reason, entry.trusted, entry.radius) for entry in entries} == {("crowded", True, 72)}
    assert sum(entry.pictures for entry in entries) == 8
    assert await found(database) == set()
    assert await stops.skipped("acme", fingerprint(), max_distance=90, ways=1) == 8


async def test_of_a_crowd_a_copy_still_finds_the_one_that_it_was_made_from(database: Database) -> None:
    await register(database, *crowd(12))
    nearly = f"{int(pdq_at(40, start=12), 16) ^ 0b11:064x}"  # two bits from c-3
    assert "id-c-3" in await found(database, pdq=nearly)
    assert await found(database, pdq=nearly, exempt=Exempt(copy_distance=1)) == set()
    assert await found(database, pdq=nearly, exempt=Exempt(sha256_of("c-3"), copy_distance=1)) == {"id-c-3"}


async def test_a_crowd_does_not_keep_what_is_farther_from_being_found(database: Database, stops: StopList) -> None:
    await register(database, picture("true", pdq=pdq_at(85, start=150), trusted=True), *crowd(30))
    assert await found(database, limit=3) == {"id-true"}


async def test_many_uploads_of_a_viral_picture_do_not_stop_its_trusted_original(
    database: Database, stops: StopList
) -> None:
    await register(database, picture("original", trusted=True, pdq=pdq_at(20)), *crowd(12, trusted=False))
    assert await found(database) == {"id-original"}
    assert {entry.trusted for entry in await stops.entries("acme")} == {False}


async def test_registering_again_changes_nothing(database: Database, stops: StopList) -> None:
    await register(database, *crowd(8))
    before = await stops.entries("acme")
    assert await register(database, *crowd(8)) == ["crowded"] * 8
    assert await stops.entries("acme") == before


async def test_an_operator_adds_and_lifts_and_what_was_lifted_is_not_stopped_again(
    database: Database, stops: StopList
) -> None:
    await register(database, picture("logo", trusted=True), picture("near", pdq=pdq_at(35)))
    entry = await stops.add("acme", "id-logo", radius=40, note="our own logo")
    assert entry is not None
    assert (entry.reason, entry.trusted, entry.pictures, entry.note) == ("manual", None, 2, "our own logo")
    assert entry.pdq == pdq_at(0)
    again = await stops.add("acme", "id-logo", radius=40, note="our own logo")
    assert again == entry
    assert await found(database, pdq=pdq_at(80)) == set()

    assert await stops.lift("acme", entry.id) == 2
    assert await stops.lift("acme", entry.id) is None
    assert await stops.lift("other", entry.id) is None
    assert await stops.entries("acme") == []
    assert [each.lifted for each in await stops.entries("acme", lifted=True)] == [True]
    assert await found(database, pdq=pdq_at(80)) == {"id-logo", "id-near"}
    assert await register(database, picture("another", trusted=True, pdq=pdq_at(5))) == [None]


async def test_a_lifted_flat_entry_stops_no_flat_picture(database: Database, stops: StopList) -> None:
    await register(database, picture("blank", quality=0, trusted=True))
    (entry,) = await stops.entries("acme")
    assert await stops.lift("acme", entry.id) == 1
    assert await register(database, picture("blank-2", quality=0, trusted=True)) == [None]
    assert await found(database, quality=0) == {"id-blank", "id-blank-2"}


async def test_what_is_no_trusted_original_cannot_be_added(database: Database, stops: StopList) -> None:
    await register(database, picture("an upload"), picture("blank", quality=0, trusted=True))
    for identity in ("id-an upload", "id-blank", "id-unknown"):
        assert await stops.add("acme", identity, radius=40) is None
