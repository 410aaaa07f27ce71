"""What people look at: the newest verdicts, their history, reviews, and hard cases that are published just once."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from typing import Any

import pytest

from services.clients.cases import Cursor, HardCases, VerdictFilter, Verdicts
from services.clients.database import Database
from services.clients.feed import _AFTER
from services.core.events import Decision, HardCaseReason, Path, ReviewDecided
from tests.clients.examples import NOON, hard_case, sha256_of, verdict

LOW_QES, AUDIT, DOUBTFUL = HardCaseReason.LOW_QES, HardCaseReason.AUDIT, HardCaseReason.DOUBTFUL_SCORE


@pytest.fixture
def verdicts(database: Database) -> Verdicts:
    return Verdicts(database)


@pytest.fixture
def hard_cases(database: Database) -> HardCases:
    return HardCases(database)


async def test_a_verdict_is_new_once(verdicts: Verdicts) -> None:
    assert await verdicts.project(verdict())
    assert not await verdicts.project(verdict())
    assert await verdicts.find(VerdictFilter()) == [verdict()]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_the_highest_revision_is_listed_whatever_the_order(verdicts: Verdicts, order: tuple[int, ...]) -> None:
    revisions = [verdict(revision=number, minutes=number) for number in range(3)]
    for number in order:
        assert await verdicts.project(revisions[number])
    assert await verdicts.find(VerdictFilter()) == [revisions[2]]
    assert await verdicts.get("acme", "u-1") == revisions


async def test_pages_of_verdicts_are_newest_first_without_gaps_or_repeats(verdicts: Verdicts) -> None:
    everything = [verdict(f"u-{number:02}", minutes=number // 3) for number in range(11)]  # three at each instant
    for each in everything:
        await verdicts.project(each)
    listed, cursor = [], None
    while page := await verdicts.find(VerdictFilter(tenant="acme"), limit=4, before=cursor):
        listed += page
        cursor = Cursor.after(page[-1])
    assert listed == sorted(everything, key=lambda each: (each.judged_at, each.upload_id), reverse=True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["blind", "clean", "forged", "theirs", "truncated"]),
        ({"tenant": "other"}, ["theirs"]),
        ({"tenant": "acme", "decisions": (Decision.MANIPULATED,)}, ["blind", "forged"]),
        ({"decisions": (Decision.NO_EVIDENCE, Decision.REJECTED)}, ["clean", "truncated"]),
        ({"decisions": ()}, []),
        ({"paths": (Path.UNCONSTRAINED,)}, ["blind"]),
        ({"upload_ids": ("clean", "theirs", "never seen")}, ["clean", "theirs"]),
        ({"sha256": sha256_of("blind")}, ["blind"]),
        ({"since": NOON + timedelta(minutes=3)}, ["theirs", "truncated"]),
        ({"tenant": "acme", "since": NOON + timedelta(minutes=3)}, ["truncated"]),
    ],
)
async def test_verdicts_are_found_by_what_they_say(
    verdicts: Verdicts, asked: dict[str, Any], expected: list[str]
) -> None:
    for each in (
        verdict("forged", minutes=0),
        verdict("clean", decision=Decision.NO_EVIDENCE, minutes=1),
        verdict("blind", word="blind", path=Path.UNCONSTRAINED, against=None, minutes=2),
        verdict("truncated", path=Path.REJECTED, filename="broken\x00.jpg", minutes=3),
        verdict("theirs", tenant="other", minutes=4),
    ):
        await verdicts.project(each)
    chosen = VerdictFilter(**asked)
    assert sorted(each.upload_id for each in await verdicts.find(chosen)) == expected
    assert sum((await verdicts.counts(chosen)).values()) == len(expected)


async def test_counts_name_every_decision(verdicts: Verdicts) -> None:
    await verdicts.project(verdict("u-1"))
    await verdicts.project(verdict("u-2"))
    await verdicts.project(verdict("u-3", path=Path.REJECTED))
    assert await verdicts.counts(VerdictFilter()) == {
        Decision.MANIPULATED: 2,
        Decision.NO_EVIDENCE: 0,
        Decision.INCONCLUSIVE: 0,
        Decision.REJECTED: 1,
    }


async def test_an_upload_without_verdict_has_no_history(verdicts: Verdicts) -> None:
    assert await verdicts.get("acme", "u-1") == []


async def test_a_review_is_recorded_once(verdicts: Verdicts) -> None:
    review = ReviewDecided(
        decision_id="d-1",
        upload_id="u-1",
        tenant="acme",
        of_revision=0,
        moderator="kim",
        decision=Decision.NO_EVIDENCE,
        comment="a reflection\x00",
        decided_at=NOON,
    )
    assert await verdicts.record_review(review)
    assert not await verdicts.record_review(review)


async def test_a_case_is_published_for_the_first_upload_of_a_content_only(hard_cases: HardCases) -> None:
    assert await hard_cases.add(hard_case("u-1", LOW_QES))
    assert not await hard_cases.add(hard_case("u-2", LOW_QES))


async def test_a_case_that_is_delivered_again_gets_the_same_answer(hard_cases: HardCases) -> None:
    first, copy = hard_case("u-1", LOW_QES), hard_case("u-2", LOW_QES)
    assert [await hard_cases.add(case) for case in (first, copy, first, copy, first)] == [
        True,
        False,
        True,
        False,
        True,
    ]


async def test_a_new_reason_publishes_a_known_case_again(hard_cases: HardCases) -> None:
    assert await hard_cases.add(hard_case("u-1", LOW_QES))
    assert await hard_cases.add(hard_case("u-2", LOW_QES, AUDIT))
    assert not await hard_cases.add(hard_case("u-3", AUDIT))
    assert await hard_cases.add(hard_case("u-1", HardCaseReason.MODERATOR_OVERTURNED, revision=1))


async def test_of_many_uploads_at_once_exactly_one_publishes_the_case(hard_cases: HardCases) -> None:
    answers = await asyncio.gather(*(hard_cases.add(hard_case(f"u-{number}", LOW_QES)) for number in range(16)))
    assert sum(answers) == 1


async def test_a_case_keeps_all_reasons_and_the_highest_priority(hard_cases: HardCases) -> None:
    await hard_cases.add(hard_case("u-1", LOW_QES, priority=0.4))
    await hard_cases.add(hard_case("u-2", DOUBTFUL, priority=0.9, minutes=1))
    await hard_cases.add(hard_case("u-3", AUDIT, priority=0.1, minutes=2))
    await hard_cases.add(hard_case("u-4", AUDIT, word="another", priority=0.95, minutes=3))
    urgent, merged = await hard_cases.find("acme")
    assert urgent.upload_id == "u-4"
    assert (merged.upload_id, merged.priority) == ("u-1", 0.9)
    assert set(merged.reasons) == {LOW_QES, DOUBTFUL, AUDIT}
    assert await hard_cases.find("acme", limit=1) == [urgent]
    assert await hard_cases.find("other") == []


async def test_the_feed_of_a_small_tenant_does_not_read_what_arrived_for_others(database: Database) -> None:
    crowd = """
    insert into verdict_history (tenant, upload_id, revision, event)
    select 'crowd', 'u-' || n, 0, '{}' from generate_series(1, 5000) as n
    """
    query = {"place": 0, "but": [], "tenants": ["small"], "limit": 100}
    async with database.connection() as connection:
        await connection.execute(crowd)
        await connection.execute("analyze verdict_history")
        rows = await (await connection.execute("explain " + _AFTER, query)).fetchall()
    assert any("verdict_history_of_tenant" in row["QUERY PLAN"] for row in rows)
