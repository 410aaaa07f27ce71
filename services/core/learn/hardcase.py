"""Which verdicts the trainer should look at, and why. Pure.

In: a verdict and the policy. Out: a hard case with its reasons and priority, or None.
"""

from __future__ import annotations

from datetime import datetime

from services.core.events import Decision, HardCaseFound, HardCaseReason, Path, VerdictReached
from services.core.learn.outlier import outlier
from services.core.policy import Policy, chosen

PRIORITY = {
    HardCaseReason.MODERATOR_OVERTURNED: 1.0,  # a person has already shown the model wrong
    HardCaseReason.PATHS_DISAGREE: 0.8,
    HardCaseReason.DOUBTFUL_SCORE: 0.6,
    HardCaseReason.LOW_QES: 0.5,
    HardCaseReason.OUTLIER: 0.3,
    HardCaseReason.AUDIT: 0.1,
}
NOT_NEWS = (Path.REJECTED, Path.REUSED, Path.IDENTICAL)
"""Paths whose verdicts say nothing new about the models."""


def reasons(verdict: VerdictReached, policy: Policy) -> tuple[HardCaseReason, ...]:
    """Every rule that applies, in the order of `HardCaseReason`."""
    if verdict.image is None or verdict.path in NOT_NEWS or verdict.path is Path.REVIEWED:
        return ()
    constrained = verdict.path in (Path.CONSTRAINED_SPG, Path.CONSTRAINED_SDG)
    thresholds = policy.constrained if constrained else policy.unconstrained
    others = policy.unconstrained if constrained else policy.constrained
    found: list[HardCaseReason] = []
    mask = verdict.mask
    if mask is not None and mask.area >= thresholds.least_area and mask.qes < policy.least_qes:
        found.append(HardCaseReason.LOW_QES)
    if verdict.score is not None and verdict.second_score is not None:
        first, second = verdict.score >= thresholds.manipulated_at, verdict.second_score >= others.manipulated_at
        if first != second:
            found.append(HardCaseReason.PATHS_DISAGREE)
    if verdict.decision is Decision.INCONCLUSIVE:
        found.append(HardCaseReason.DOUBTFUL_SCORE)
    if policy.training is not None and outlier(verdict.image, policy.training):
        found.append(HardCaseReason.OUTLIER)
    if chosen(f"audit/{verdict.image.sha256}", policy.audit_share):
        found.append(HardCaseReason.AUDIT)
    return tuple(found)


def hard_case(
    verdict: VerdictReached, policy: Policy, *, now: datetime, overturned: bool = False
) -> HardCaseFound | None:
    """The hard case of a verdict, or None where there is nothing to learn."""
    found = reasons(verdict, policy)
    if overturned:
        found = (*found, HardCaseReason.MODERATOR_OVERTURNED)
    if not found or verdict.image is None:
        return None
    return HardCaseFound(
        upload_id=verdict.upload_id,
        tenant=verdict.tenant,
        revision=verdict.revision,
        reasons=found,
        priority=max(PRIORITY[reason] for reason in found),
        image=verdict.image,
        mask_key=verdict.mask.object_key if verdict.mask else None,
        candidate=verdict.candidate,
        score=verdict.score,
        models=verdict.models,
        policy_version=verdict.policy_version,
        found_at=now,
    )
