from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import REJECTION_CODES, Broken, Rejected
from services.core.events import Decision, Path
from services.core.evidence import CopiedPart
from services.core.judge.route import Alone, Compare, Identical
from services.core.judge.verdict import Outcome, decide, judged, needs_unconstrained, rejected, reused
from services.core.policy import PathPolicy, Policy
from tests.core.facts import NOW, candidate, finding, intake, verdict

POLICY = Policy(
    constrained=PathPolicy(manipulated_at=0.6, doubtful_at=0.3, least_area=0.001),
    unconstrained=PathPolicy(manipulated_at=0.9, doubtful_at=0.5, least_area=0.002),
)
TRUSTED = Compare(candidate(), both=False)
UNTRUSTED = Compare(candidate(trusted=False), both=True)


def codes(outcome: Outcome) -> list[str]:
    return [reason.code for reason in outcome.reasons]


@pytest.mark.parametrize(
    ("score", "area", "decision"),
    [
        (0.95, 0.1, Decision.MANIPULATED),
        (0.9, 0.002, Decision.MANIPULATED),
        (0.95, 0.001, Decision.INCONCLUSIVE),
        (0.89, 0.1, Decision.INCONCLUSIVE),
        (0.5, 0.0, Decision.INCONCLUSIVE),
        (0.49, 0.9, Decision.NO_EVIDENCE),
    ],
)
def test_alone_score_and_area_decide(score: float, area: float, decision: Decision) -> None:
    outcome = decide(Alone(), None, finding(score, area=area), POLICY)
    assert (outcome.decision, outcome.path) == (decision, Path.UNCONSTRAINED)
    assert "no_original" in codes(outcome)


@pytest.mark.parametrize(("told", "words"), [(True, "is a copy of its place at (9, 8)"), (False, "one is a copy of")])
def test_a_copied_part_is_a_reason_in_words(told: bool, words: str) -> None:
    part = CopiedPart(source=(9, 8, 40, 30), copy=(100, 90, 40, 30), told=told)
    outcome = decide(Alone(), None, replace(finding(0.97, area=0.1), copies=(part,)), POLICY)
    assert codes(outcome) == ["traces_found", "copied_within", "no_original"]
    assert words in outcome.reasons[1].text
    assert "40 x 30 pixels at (100, 90)" in outcome.reasons[1].text


def test_a_difference_from_a_trusted_original_is_a_manipulation_and_names_it() -> None:
    outcome = decide(TRUSTED, finding(0.8, kind="spg"), None, POLICY)
    assert (outcome.decision, outcome.path) == (Decision.MANIPULATED, Path.CONSTRAINED_SPG)
    assert "the-original" in outcome.reasons[0].text


def test_a_smeared_mask_leaves_the_decision_to_a_person() -> None:
    outcome = decide(TRUSTED, finding(0.8, kind="spg", qes=0.2), None, POLICY)
    assert outcome.decision is Decision.INCONCLUSIVE
    assert "low_qes" in codes(outcome)


def test_a_copy_of_a_trusted_original_shows_no_evidence() -> None:
    outcome = decide(TRUSTED, finding(0.1, kind="spg", area=0.0), None, POLICY)
    assert (outcome.decision, codes(outcome)) == (Decision.NO_EVIDENCE, ["matches_original"])


def test_a_moved_object_is_told_from_an_edit_in_place_by_the_path() -> None:
    assert decide(TRUSTED, finding(0.8, kind="sdg"), None, POLICY).path is Path.CONSTRAINED_SDG


@pytest.mark.parametrize(
    ("score", "decision", "code"),
    [
        (0.8, Decision.MANIPULATED, "object_of_original"),
        (0.4, Decision.INCONCLUSIVE, "object_doubtful"),
        (0.1, Decision.INCONCLUSIVE, "object_doubtful"),
    ],
)
def test_a_moved_object_is_never_said_to_show_the_same_picture(score: float, decision: Decision, code: str) -> None:
    outcome = decide(TRUSTED, finding(score, kind="sdg"), None, POLICY)
    assert (outcome.decision, codes(outcome)[0]) == (decision, code)
    assert "shows the same" not in outcome.reasons[0].text


def test_an_unrelated_candidate_leaves_it_to_the_other_path() -> None:
    pair = finding(0.0, kind="unrelated", area=0.0)
    assert needs_unconstrained(TRUSTED, pair)
    outcome = decide(TRUSTED, pair, finding(0.95), POLICY)
    assert (outcome.decision, outcome.path) == (Decision.MANIPULATED, Path.UNCONSTRAINED)
    assert "candidate_unrelated" in codes(outcome)


def test_a_difference_from_an_earlier_upload_alone_proves_nothing() -> None:
    outcome = decide(UNTRUSTED, finding(0.9, kind="spg"), finding(0.1), POLICY)
    assert outcome.decision is Decision.INCONCLUSIVE
    assert "untrusted_original" in codes(outcome)
    assert outcome.second_score == 0.1


def test_a_difference_from_an_earlier_upload_and_traces_of_its_own_are_a_manipulation() -> None:
    outcome = decide(UNTRUSTED, finding(0.9, kind="spg"), finding(0.95), POLICY)
    assert (outcome.decision, outcome.path) == (Decision.MANIPULATED, Path.CONSTRAINED_SPG)


def test_sameness_with_an_earlier_upload_clears_nobody() -> None:
    outcome = decide(UNTRUSTED, finding(0.0, kind="spg", area=0.0), finding(0.95), POLICY)
    assert (outcome.decision, outcome.path) == (Decision.MANIPULATED, Path.UNCONSTRAINED)
    assert "same_as_earlier_upload" in codes(outcome)


def test_notes_belong_to_the_verdicts_that_the_unconstrained_path_decides() -> None:
    alone = replace(finding(0.1), notes=("no_jpeg_history",))
    unrelated = finding(0.0, kind="unrelated", area=0.0)
    same = finding(0.0, kind="spg", area=0.0)
    for outcome in (
        decide(Alone(), None, alone, POLICY),
        decide(TRUSTED, unrelated, alone, POLICY),
        decide(UNTRUSTED, same, alone, POLICY),
    ):
        assert outcome.path is Path.UNCONSTRAINED
        event = judged(intake(), outcome, (), POLICY, now=NOW, timings_ms={})
        assert event.notes == ("no_jpeg_history",)
    compared = decide(UNTRUSTED, finding(0.9, kind="spg"), alone, POLICY)
    assert compared.notes == ()


def test_the_very_original_needs_no_finding() -> None:
    outcome = decide(Identical(candidate()), None, None, POLICY)
    assert (outcome.decision, outcome.path, outcome.mask) == (Decision.NO_EVIDENCE, Path.IDENTICAL, None)


def test_a_missing_finding_is_our_own_bug() -> None:
    with pytest.raises(Broken):
        decide(Alone(), None, None, POLICY)


@given(score=st.floats(0, 1), second=st.floats(0, 1), area=st.floats(0, 1), qes=st.floats(0, 1), trusted=st.booleans())
def test_every_finding_leads_to_a_verdict_that_has_a_reason(
    score: float, second: float, area: float, qes: float, trusted: bool
) -> None:
    way = Compare(candidate(trusted=trusted), both=True)
    outcome = decide(way, finding(score, kind="spg", area=area, qes=qes), finding(second), POLICY)
    event = judged(intake(), outcome, (), POLICY, now=NOW, timings_ms={})
    assert event.reasons
    assert event.decision is not Decision.REJECTED
    assert "authentic" not in " ".join(reason.text for reason in event.reasons).lower()


def test_a_duplicate_says_whose_verdict_it_repeats() -> None:
    earlier = verdict(upload_id="the-first")
    repeated = reused(intake(), earlier, now=NOW, timings_ms={"route": 1.0})
    assert (repeated.path, repeated.reused_from) == (Path.REUSED, "the-first")
    assert (repeated.decision, repeated.score, repeated.mask) == (earlier.decision, earlier.score, earlier.mask)
    assert repeated.event_id() != earlier.event_id()


@pytest.mark.parametrize("code", sorted(REJECTION_CODES))
def test_every_rejection_becomes_a_verdict_with_its_code(code: str) -> None:
    event = rejected(intake(), Rejected(code, "It is so."), POLICY, now=NOW)
    assert (event.decision, event.path, event.reasons[0].code) == (Decision.REJECTED, Path.REJECTED, code)
    assert event.image is None
