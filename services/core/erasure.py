"""What is left of events after a picture was erased: that it was there, and nothing of the picture. Pure.

In: an event, the SHA-256 of the erased content. Out: the event without that content's key, hash, size, name, mask and
candidate; ids, decision, score and times stay. Applied again it changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime

from services.core.events import HardCaseFound, Reason, ReviewDecided, VerdictReached

ERASED = Reason(code="erased", text="The picture was erased.")
ORIGINAL_ERASED = Reason(code="original_erased", text="The picture that it was compared with was erased.")


def content_mark(sha256: str) -> str:
    """What the audit keeps of an erased content: whoever has the picture can tell that it is meant, nobody else."""
    return hashlib.sha256(f"erased/{sha256}".encode()).hexdigest()


def tenant_mark(tenant: str) -> str:
    """The same of a whole tenant: no content has this mark."""
    return content_mark(f"tenant/{tenant}")


def unknown(erasures: Iterable[Mapping[str, str]], known: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Erasures (`tenant`, `mark`, `erased_at`) that a database has not seen. What came again after one stays."""
    seen: dict[tuple[str, str], datetime] = {}
    for each in known:
        what, when = (each["tenant"], each["mark"]), datetime.fromisoformat(each["erased_at"])
        seen[what] = max(when, seen.get(what, when))
    return [
        each
        for each in erasures
        if (last := seen.get((each["tenant"], each["mark"]))) is None
        or last < datetime.fromisoformat(each["erased_at"])
    ]


def verdict_without(verdict: VerdictReached, sha256: str) -> VerdictReached:
    """A verdict without the content, which was its picture or its candidate."""
    if verdict.image is not None and verdict.image.sha256 == sha256:
        nothing = dict.fromkeys(("image", "mask", "candidate", "filename"))
        return verdict.model_copy(update={**nothing, "reasons": (ERASED, *verdict.reasons)})
    if verdict.candidate is not None and verdict.candidate.sha256 == sha256:
        return verdict.model_copy(update={"candidate": None, "reasons": (ORIGINAL_ERASED, *verdict.reasons)})
    return verdict


def case_without(case: HardCaseFound, sha256: str) -> HardCaseFound:
    """A hard case of another picture, without the content as its candidate."""
    if case.candidate is not None and case.candidate.sha256 == sha256:
        return case.model_copy(update={"candidate": None})
    return case


def review_without_mask(review: ReviewDecided) -> ReviewDecided:
    """A decision on the content, without the mask that was drawn."""
    return review.model_copy(update={"corrected_mask_key": None})


def masks_of(event: VerdictReached | HardCaseFound | ReviewDecided, sha256: str) -> set[str]:
    """The keys of masks that an event names of the content. A review is one of an upload of the content."""
    if isinstance(event, ReviewDecided):
        keys = {event.corrected_mask_key}
    elif event.image is None or event.image.sha256 != sha256:
        keys = set()
    elif isinstance(event, HardCaseFound):
        keys = {event.mask_key}
    else:
        keys = {event.mask.object_key} if event.mask is not None else set()
    return {key for key in keys if key is not None}
