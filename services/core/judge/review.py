"""What a moderator's decision does to a verdict. Pure."""

from __future__ import annotations

from datetime import datetime

from services.core.events import Path, Reason, ReviewDecided, VerdictReached


def revised(verdict: VerdictReached, review: ReviewDecided, *, now: datetime) -> VerdictReached:
    """The verdict after a moderator's word, one revision higher.

    The evidence (score, mask, candidate) stays; the decision is the moderator's. A rejected upload stays rejected:
    there is no picture to decide on.
    """
    if verdict.path is Path.REJECTED:
        return verdict
    text = f"A moderator decided: {review.decision.value.replace('_', ' ')}."
    reasons = (Reason(code="moderator_decided", text=text), *verdict.reasons)
    return verdict.model_copy(
        update={
            "revision": verdict.revision + 1,
            "decision": review.decision,
            "path": Path.REVIEWED,
            "reasons": reasons,
            "judged_at": now,
        }
    )


def overturned(verdict: VerdictReached, review: ReviewDecided) -> bool:
    """Whether the moderator contradicts what the system had decided (an inconclusive verdict decides nothing), or drew
    another mask.
    """
    decided = verdict.decision.value in ("manipulated", "no_evidence")
    return (decided and review.decision is not verdict.decision) or review.corrected_mask_key is not None
