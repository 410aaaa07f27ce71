"""What a challenger says of an upload beside the champion's verdict. Pure.

In: the verdict and the challenger's finding. Out: a `Shadow`, to be recorded and never published. Compared is what both
would publish: a verdict without evidence marks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.core.errors import Broken
from services.core.events import Mask, VerdictReached
from services.core.judge.mask import from_rle
from services.core.judge.route import Alone
from services.core.judge.verdict import Finding, decide
from services.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Shadow:
    """Both versions' words on one upload; `champion` and `challenger` are versions, `iou` is of what they mark."""

    tenant: str
    upload_id: str
    champion: str
    challenger: str
    champion_score: float
    score: float
    champion_decision: str
    decision: str
    iou: float
    seconds: float


def shadow(verdict: VerdictReached, finding: Finding, seconds: float, policy: Policy) -> Shadow:
    """The challenger's `finding` beside an unconstrained verdict. Raises Broken for any other verdict."""
    if verdict.score is None or len(verdict.models) != 1:
        raise Broken(f"the verdict on {verdict.upload_id} is not the single-image model's alone")
    outcome = decide(Alone(), None, finding, policy)
    return Shadow(
        tenant=verdict.tenant,
        upload_id=verdict.upload_id,
        champion=verdict.models[0].version,
        challenger=finding.model.version,
        champion_score=verdict.score,
        score=finding.score,
        champion_decision=verdict.decision.value,
        decision=outcome.decision.value,
        iou=overlap(verdict.mask, outcome.mask),
        seconds=seconds,
    )


def overlap(first: Mask | None, second: Mask | None) -> float:
    """Intersection over union of what two masks of one size flag; 1 where neither flags anything."""
    if first is None or second is None:
        return float(all(mask is None or mask.area == 0.0 for mask in (first, second)))
    ours, theirs = from_rle(first.rle), from_rle(second.rle)
    union = int(np.count_nonzero(ours | theirs))
    return int(np.count_nonzero(ours & theirs)) / union if union else 1.0
