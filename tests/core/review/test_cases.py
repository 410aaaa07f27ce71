"""Which verdicts need a person, which are one case, and which case comes first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.core.events import Decision, Path, VerdictReached
from services.core.policy import DEFAULT_POLICY, Policy, ReviewPolicy, ReviewReason
from services.core.review.cases import (
    DAY_S,
    DOUBT,
    Standing,
    answerable,
    clusters,
    need,
    priority,
    rank,
    settled_because,
    urgency,
)
from services.core.review.honeypots import Unusable, Usable, honeypot_of
from tests.clients.examples import NOON, sha256_of, verdict

STANDING = Standing("inconclusive", nearness=0.5, weight=1.0, members=1, escalated=False, opened_at=NOON)
standings = st.builds(
    Standing,
    kind=st.sampled_from(sorted(DOUBT)),
    nearness=st.floats(0, 1),
    weight=st.floats(0, 10),
    members=st.integers(0, 10**6),
    escalated=st.booleans(),
    opened_at=st.datetimes().map(lambda each: each.replace(tzinfo=NOON.tzinfo)),
)


def doubt(**changes: object) -> VerdictReached:
    return verdict(decision=Decision.INCONCLUSIVE, path=Path.UNCONSTRAINED, against=None).model_copy(update=changes)


def with_rules(**rules: object) -> Policy:
    return DEFAULT_POLICY.model_copy(update={"review": ReviewPolicy.model_validate(rules)})


@pytest.mark.parametrize(
    ("said", "policy", "kind"),
    [
        (doubt(), DEFAULT_POLICY, "inconclusive"),
        (doubt(), with_rules(inconclusive=False), None),
        (doubt(path=Path.REVIEWED), DEFAULT_POLICY, None),
        (doubt(decision=Decision.MANIPULATED), DEFAULT_POLICY, None),
        (doubt(decision=Decision.MANIPULATED), with_rules(spot_check_share=1.0), "spot_check"),
        (doubt(decision=Decision.NO_EVIDENCE, path=Path.IDENTICAL), with_rules(spot_check_share=1.0), None),
        (doubt(decision=Decision.MANIPULATED, score=0.95, second_score=0.1), DEFAULT_POLICY, "paths_disagree"),
        (verdict(path=Path.REJECTED, decision=Decision.REJECTED), with_rules(spot_check_share=1.0), None),
    ],
)
def test_policy_says_which_verdicts_a_person_looks_at(said: VerdictReached, policy: Policy, kind: str | None) -> None:
    asked = need(said, policy)
    assert (None if asked is None else asked.kind) == kind


def test_a_score_at_the_threshold_is_nearest_and_a_tenant_has_its_weight() -> None:
    at = DEFAULT_POLICY.unconstrained.manipulated_at
    near, far = need(doubt(score=at), DEFAULT_POLICY), need(doubt(score=0.0), with_rules(tenant_weights={"acme": 3}))
    assert near is not None and far is not None
    assert (near.nearness, near.weight) == (1.0, 1.0)
    assert far.nearness == pytest.approx(1 - at)
    assert far.weight == 3.0


def test_a_verdict_finds_its_case_by_its_candidate_and_then_by_its_own_content() -> None:
    assert clusters(verdict(word="a", against="original")) == (sha256_of("original"), sha256_of("a"))
    assert clusters(doubt()) == (sha256_of("picture"),)
    assert clusters(verdict(path=Path.REJECTED, decision=Decision.REJECTED)) == ()


@pytest.mark.parametrize(
    "more_urgent",
    [
        {"nearness": 0.9},
        {"members": 100},
        {"weight": 2.0},
        {"escalated": True},
        {"opened_at": NOON - timedelta(hours=1)},
    ],
    ids=lambda each: next(iter(each)),
)
def test_each_of_these_brings_a_case_forward(more_urgent: dict[str, object]) -> None:
    usual = {name: getattr(STANDING, name) for name in Standing.__slots__}
    assert rank(Standing(**{**usual, **more_urgent})) > rank(STANDING)


@given(standings, standings, st.floats(0, 10**9))
def test_the_order_by_rank_is_the_order_by_priority_at_any_time(one: Standing, other: Standing, s: float) -> None:
    now = NOON + timedelta(seconds=s)
    by_rank = rank(one) - rank(other)
    assert priority(rank(one), now) - priority(rank(other), now) == pytest.approx(by_rank, abs=1e-6)


@given(standings)
def test_urgency_is_between_nothing_and_the_tenants_weight_and_one_for_an_escalation(case: Standing) -> None:
    assert 0.0 <= urgency(case) <= case.weight + 1.0 + 1e-9


def test_a_day_of_waiting_weighs_one() -> None:
    later = NOON + timedelta(seconds=DAY_S)
    assert priority(rank(STANDING), later) - priority(rank(STANDING), NOON) == pytest.approx(1.0)
    assert priority(rank(STANDING), NOON) == pytest.approx(urgency(STANDING))


def test_a_settled_case_says_which_revision_settled_it() -> None:
    said = settled_because(verdict(revision=2, decision=Decision.NO_EVIDENCE, text="It is the original."))
    assert said == "Revision 2 says no evidence: It is the original."


def test_a_known_answer_needs_a_verdict_that_was_decided_and_would_not_stand_out() -> None:
    before, reviewed = doubt(), doubt(path=Path.REVIEWED, revision=1, decision=Decision.MANIPULATED)
    assert honeypot_of([before, reviewed], DEFAULT_POLICY) == Usable(before, "inconclusive")
    for revisions, code in (
        ([before], "not_settled"),
        ([reviewed], "not_settled"),
        ([doubt(decision=Decision.MANIPULATED), reviewed], "stands_out"),
    ):
        refused = honeypot_of(revisions, DEFAULT_POLICY)
        assert isinstance(refused, Unusable) and refused.code == code
    assert answerable(doubt(decision=Decision.MANIPULATED), with_rules(spot_check_share=0.1)) == "spot_check"


# -- the policy's rules ----------------------------------------------------------------------------------------------


def test_the_rules_of_reviews_change_no_version_since_no_verdict_depends_on_them() -> None:
    assert with_rules(spot_check_share=0.5).version == DEFAULT_POLICY.version


def reason(code: str, key: str, *decisions: str) -> ReviewReason:
    return ReviewReason.model_validate({"code": code, "label": code, "key": key, "decisions": decisions})


@pytest.mark.parametrize(
    ("reasons", "fault"),
    [
        ((reason("a", "1", "manipulated"), reason("a", "2", "manipulated")), "there twice"),
        ((reason("a", "1", "manipulated"), reason("b", "1", "manipulated")), "same key"),
        ((reason("a", "1", "no_evidence"),), "has none"),
    ],
)
def test_reasons_that_cannot_be_told_apart_or_are_missing_are_refused(
    reasons: tuple[ReviewReason, ...], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        ReviewPolicy(reasons=reasons)
