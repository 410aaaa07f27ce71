"""The ledger: one verdict per upload and revision, whoever writes first, however often they ask."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from services.clients.database import Database
from services.clients.ledger import Ledger
from services.core.errors import Broken, Unavailable
from services.core.events import Decision, ModelVersion, Path, VerdictReached
from tests.clients.examples import NOON, PAIR, POLICY, SINGLE, sha256_of, verdict


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


async def test_the_first_claim_wins_and_everybody_gets_its_bytes(ledger: Ledger) -> None:
    first = verdict(text="I was first.")
    assert (await ledger.claim(first)).to_bytes() == first.to_bytes()
    assert (await ledger.claim(verdict(text="I was second."))).to_bytes() == first.to_bytes()


async def test_many_writers_at_once_agree_on_one_verdict(database: Database) -> None:
    ledgers = [Ledger(database) for _ in range(24)]
    claims = [ledger.claim(verdict(text=f"Writer {number}.")) for number, ledger in enumerate(ledgers)]
    assert len({claimed.to_bytes() for claimed in await asyncio.gather(*claims)}) == 1


async def test_uploads_of_the_same_name_from_two_tenants_have_a_verdict_each(ledger: Ledger) -> None:
    ours = await ledger.claim(verdict(tenant="acme"))
    theirs = await ledger.claim(verdict(tenant="other"))
    assert {ours.event_id(), theirs.event_id()} == {verdict(tenant=t).event_id() for t in ("acme", "other")}


@pytest.mark.parametrize(
    "odd",
    [
        verdict(filename="nul\x00 and \U0001f5bc.jpg", text='quotes "\\" and \u2028'),
        verdict(path=Path.REJECTED, models=()),
        verdict().model_copy(
            update={"judged_at": datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))}
        ),
        verdict().model_copy(update={"score": 1e-17, "timings_ms": {"z": 1e22, "a": 0.1 + 0.2}}),
    ],
    ids=["odd characters", "rejected", "another time zone", "extreme numbers"],
)
async def test_any_verdict_comes_back_byte_for_byte(ledger: Ledger, odd: VerdictReached) -> None:
    claimed = await ledger.claim(odd)
    assert claimed == odd
    assert claimed.to_bytes() == odd.to_bytes()


async def test_the_latest_verdict_is_the_one_of_the_highest_revision(ledger: Ledger) -> None:
    assert await ledger.latest("acme", "u-1") is None
    await ledger.claim(verdict())
    revised = await ledger.claim_revision(verdict(decision=Decision.NO_EVIDENCE), cause="review/1")
    assert revised.revision == 1
    assert await ledger.latest("acme", "u-1") == revised
    before = await ledger.latest("acme", "u-1", below=revised.revision)
    assert before is not None and before.revision < revised.revision


async def test_a_cause_that_comes_again_gets_its_first_revision(ledger: Ledger) -> None:
    await ledger.claim(verdict())
    first = await ledger.claim_revision(verdict(text="as first said"), cause="review/1")
    await ledger.claim_revision(verdict(), cause="review/2")
    again = await ledger.claim_revision(verdict(text="said differently"), cause="review/1")
    assert again.to_bytes() == first.to_bytes()


async def test_causes_at_the_same_time_get_a_revision_each_without_gaps(ledger: Ledger) -> None:
    await ledger.claim(verdict())
    causes = [f"cause/{number}" for number in range(10)] * 2
    revisions = await asyncio.gather(*(ledger.claim_revision(verdict(), cause=cause) for cause in causes))
    assert {cause: revised.revision for cause, revised in zip(causes, revisions, strict=True)} == {
        cause: revised.revision for cause, revised in zip(causes[:10], revisions[:10], strict=True)
    }
    assert sorted({revised.revision for revised in revisions}) == list(range(1, 11))


async def test_a_revision_made_over_another_than_the_newest_is_looked_at_again(ledger: Ledger) -> None:
    await ledger.claim(verdict())
    await ledger.claim_revision(verdict(), cause="review/1")
    with pytest.raises(Unavailable, match="look again"):
        await ledger.claim_revision(verdict(), cause="late/1", over=0)
    assert await ledger.caused("acme", "u-1", "late/1") is None
    stored = await ledger.claim_revision(verdict(), cause="late/1", over=1)
    assert stored.revision == 2
    assert await ledger.claim_revision(verdict(), cause="late/1", over=0) == stored  # its own revision is no other one
    assert await ledger.caused("acme", "u-1", "late/1") == stored


async def test_an_upload_without_a_verdict_cannot_be_revised(ledger: Ledger) -> None:
    with pytest.raises(Broken, match="u-9 of acme has no verdict to revise"):
        await ledger.claim_revision(verdict("u-9"), cause="review/1")


async def test_a_revision_cannot_be_claimed_without_a_cause(ledger: Ledger) -> None:
    with pytest.raises(Broken, match="claim_revision"):
        await ledger.claim(verdict(revision=3))


async def reuse(
    ledger: Ledger,
    *,
    tenant: str = "acme",
    word: str = "picture",
    models: tuple[ModelVersion, ...] = (PAIR, SINGLE),
    policy_version: str = POLICY,
    against: str | None = "original",
) -> str | None:
    """The upload whose verdict can be repeated for another upload of `word`."""
    found = await ledger.reusable(
        tenant,
        sha256_of(word),
        models=frozenset(models),
        policy_version=policy_version,
        candidate_sha256=None if against is None else sha256_of(against),
    )
    return None if found is None else found.upload_id


async def test_a_verdict_is_reusable_while_models_policy_and_candidate_are_the_same(ledger: Ledger) -> None:
    await ledger.claim(verdict("u-1"))
    assert await reuse(ledger) == "u-1"
    assert await reuse(ledger, models=(SINGLE,)) is None
    assert await reuse(ledger, models=(ModelVersion(name=PAIR.name, version="0.2.0+cccccccccccc"), SINGLE)) is None
    assert await reuse(ledger, policy_version="default-9999999999") is None
    assert await reuse(ledger, against="another original") is None
    assert await reuse(ledger, against=None) is None
    assert await reuse(ledger, word="another picture") is None
    assert await reuse(ledger, tenant="other") is None


async def test_a_verdict_without_candidate_is_reusable_where_there_is_none(ledger: Ledger) -> None:
    await ledger.claim(verdict("u-1", path=Path.UNCONSTRAINED, against=None, models=(SINGLE,)))
    assert await reuse(ledger, against=None) == "u-1"
    assert await reuse(ledger) is None


@pytest.mark.parametrize("path", [Path.REJECTED, Path.REUSED, Path.REVIEWED])
async def test_only_what_models_found_is_reusable(ledger: Ledger, path: Path) -> None:
    await ledger.claim(verdict("u-1", path=path))
    assert await reuse(ledger) is None


async def test_the_newest_of_several_verdicts_is_reused(ledger: Ledger) -> None:
    for minutes in (5, 9, 7):
        await ledger.claim(verdict(f"u-{minutes}", minutes=minutes))
    found = await ledger.reusable(
        "acme", sha256_of("picture"), models=[PAIR], policy_version=POLICY, candidate_sha256=sha256_of("original")
    )
    assert found is not None
    assert found.judged_at > NOON + timedelta(minutes=9)
