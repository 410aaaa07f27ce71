"""How to read a verdict: where its score stands between the policy's thresholds, and what its numbers mean in words.

In: a verdict and the policy in force. Out: thresholds and sentences for a person. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.events import Path, VerdictReached
from services.core.policy import PathPolicy, Policy

_BY_THE_PAIR = (Path.CONSTRAINED_SPG, Path.CONSTRAINED_SDG)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The policy's lines on the scale of a score, 0..1. `same_policy` False: another policy reached the verdict
    than the one in force, whose lines these are."""

    manipulated_at: float
    doubtful_at: float
    policy_version: str
    same_policy: bool


def thresholds(verdict: VerdictReached, policy: Policy) -> Thresholds | None:
    """The lines of the path that a score comes from; None where there is no score."""
    if verdict.score is None:
        return None
    path: PathPolicy = policy.constrained if _compared(verdict) else policy.unconstrained
    return Thresholds(
        manipulated_at=path.manipulated_at,
        doubtful_at=path.doubtful_at,
        policy_version=policy.version,
        same_policy=verdict.policy_version == policy.version,
    )


def score_in_words(verdict: VerdictReached, lines: Thresholds) -> str:
    """What a score says."""
    assert verdict.score is not None
    share = round(verdict.score * 100)
    if verdict.score >= lines.manipulated_at:
        place = f"From {lines.manipulated_at:.0%} on the policy says manipulated."
    elif verdict.score >= lines.doubtful_at:
        place = f"Between {lines.doubtful_at:.0%} and {lines.manipulated_at:.0%} the policy asks a person."
    else:
        place = f"Below {lines.doubtful_at:.0%} the policy sees no evidence, which is no proof of authenticity."
    return f"Calibrated: of 100 pictures with this score, about {share} are manipulated. {place}"


def qes_in_words(qes: float, least: float) -> str:
    """What a quality evaluation score says."""
    if qes >= least:
        return f"How clearly the mask divides the picture, 0 to 1. From {least:.2f} on it is decisive."
    return f"How clearly the mask divides the picture, 0 to 1. Below {least:.2f} it is doubtful: look at it closely."


def _compared(verdict: VerdictReached) -> bool:
    """Whether the score is the pair network's. A repeated or reviewed verdict keeps score and original of the first."""
    if verdict.path in (Path.REUSED, Path.REVIEWED):
        return verdict.candidate is not None
    return verdict.path in _BY_THE_PAIR
