"""What a moderator's decision does to a verdict. Pure."""

from __future__ import annotations

from datetime import datetime

from services.core.errors import Broken, Rejected
from services.core.events import Mask, Path, Reason, ReviewDecided, StoredImage, VerdictReached
from services.core.judge.mask import describe, to_full_resolution
from services.core.learn.qes import qes
from services.core.pixels import read_mask_png


def drawn(png: bytes, image: StoredImage, *, object_key: str, threshold: float) -> Mask:
    """A mask that a moderator drew on `image`, as a verdict carries it. Raises Rejected for what is no mask."""
    try:
        grey, _ = read_mask_png(png)
    except Broken as error:
        raise Rejected("corrupt", f"The corrected mask {object_key} cannot be read: {error}") from error
    mask = to_full_resolution(grey, image.width, image.height)
    return describe(mask, threshold=threshold, qes=qes(mask), object_key=object_key)


def revised(
    verdict: VerdictReached, review: ReviewDecided, *, now: datetime, mask: Mask | None = None
) -> VerdictReached:
    """The verdict after a moderator's word, one revision higher.

    The evidence (score, mask, candidate) stays, but for a `mask` that the moderator drew; the decision is theirs. A
    rejected upload stays rejected: there is no picture to decide on.
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
            "mask": mask or verdict.mask,
            "judged_at": now,
        }
    )


def overturned(verdict: VerdictReached, review: ReviewDecided) -> bool:
    """Whether the moderator contradicts what the system had decided (an inconclusive verdict decides nothing), or drew
    another mask.
    """
    decided = verdict.decision.value in ("manipulated", "no_evidence")
    return (decided and review.decision is not verdict.decision) or review.corrected_mask_key is not None
