"""Which verdicts a person has to look at, which of them are one case, and which case comes first. Pure.

In: a verdict and the policy. Out: why it needs a person, what it is grouped by, and a case's rank. Uploads that were
compared with the same picture, or are the same file, belong to one case: an original with a thousand variants is
decided once. The candidates of a verdict are near duplicates that geometry has confirmed, so that PDQ distances, which
confirm nothing, are not asked again here (docs/decisions/0028-review.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from services.core.events import Decision, HardCaseReason, Path, VerdictReached
from services.core.learn.hardcase import reasons
from services.core.policy import Policy, chosen

Kind = Literal["inconclusive", "paths_disagree", "spot_check"]

DOUBT: dict[Kind, float] = {"inconclusive": 1.0, "paths_disagree": 0.8, "spot_check": 0.2}
"""How much a decision is in doubt, 0..1, by why a person looks at it."""

DOUBT_SHARE, NEARNESS_SHARE, SPREAD_SHARE = 0.4, 0.3, 0.3
WIDE_SPREAD = 1000  # members from which on spread counts whole; counted by its logarithm
ESCALATED = 1.0  # what somebody asked for comes a day earlier
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Need:
    """Why a person has to look. `nearness` 0..1: how near the score is to the threshold. `weight`: of the tenant."""

    kind: Kind
    nearness: float
    weight: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What a case's place in the queue follows from. `members` are uploads that are still to be decided."""

    kind: Kind
    nearness: float
    weight: float
    members: int
    escalated: bool
    opened_at: datetime


def need(verdict: VerdictReached, policy: Policy) -> Need | None:
    """Why a person has to look at this verdict; None where nobody has to. What a moderator decided needs nobody."""
    kind = _kind(verdict, policy)
    if kind is None:
        return None
    return Need(kind, _nearness(verdict, policy), policy.review.tenant_weights.get(verdict.tenant, 1.0))


def _kind(verdict: VerdictReached, policy: Policy) -> Kind | None:
    if verdict.image is None or verdict.path in (Path.REJECTED, Path.REVIEWED):
        return None
    rules = policy.review
    if rules.inconclusive and verdict.decision is Decision.INCONCLUSIVE:
        return "inconclusive"
    if rules.paths_disagree and HardCaseReason.PATHS_DISAGREE in reasons(verdict, policy):
        return "paths_disagree"
    if verdict.path is not Path.IDENTICAL and chosen(f"spot-check/{verdict.image.sha256}", rules.spot_check_share):
        return "spot_check"
    return None


def _nearness(verdict: VerdictReached, policy: Policy) -> float:
    constrained = verdict.candidate is not None and verdict.path is not Path.UNCONSTRAINED
    thresholds = policy.constrained if constrained else policy.unconstrained
    return 0.0 if verdict.score is None else 1.0 - abs(verdict.score - thresholds.manipulated_at)


def clusters(verdict: VerdictReached) -> tuple[str, ...]:
    """The contents by which a verdict finds its case, the one that names a new case first: the candidate's, its own.

    Empty where there is no picture. An earlier upload is a candidate too: variants of each other meet through it.
    """
    if verdict.image is None:
        return ()
    own = verdict.image.sha256
    return (own,) if verdict.candidate is None else (verdict.candidate.sha256, own)


def urgency(case: Standing) -> float:
    """How much a case matters whatever its age: 0..1 for a tenant of weight 1, and `ESCALATED` more where it was."""
    spread = min(1.0, math.log10(max(1, case.members)) / math.log10(WIDE_SPREAD))
    parts = DOUBT_SHARE * DOUBT[case.kind] + NEARNESS_SHARE * case.nearness + SPREAD_SHARE * spread
    return case.weight * parts + (ESCALATED if case.escalated else 0.0)


def rank(case: Standing) -> float:
    """A number by which the queue is sorted, the highest first. Each day of waiting weighs 1; as all cases grow older
    at one pace, the number does not change with time and can be indexed.
    """
    return urgency(case) - (case.opened_at - EPOCH).total_seconds() / DAY_S


def priority(rank: float, now: datetime) -> float:
    """What a rank means now: the urgency, and 1 for each day since the case was opened."""
    return rank + (now - EPOCH).total_seconds() / DAY_S


def settled_because(verdict: VerdictReached) -> str:
    """Why a case needs nobody any more, in words: a later revision of its verdict."""
    decided = verdict.decision.value.replace("_", " ")
    return f"Revision {verdict.revision} says {decided}: {verdict.reasons[0].text}"


def answerable(verdict: VerdictReached, policy: Policy) -> Kind | None:
    """As which kind of case a verdict can be shown whose answer is known; None where it would stand out."""
    asked = need(verdict, policy)
    if asked is not None:
        return asked.kind
    usual = verdict.image is not None and verdict.path is not Path.REVIEWED and policy.review.spot_check_share > 0
    return "spot_check" if usual else None
