"""How long things are kept: from days to the moments before which they go. Pure.

In: a tenant's rules and the time. Out: `Cutoffs`. Rules that the numbers alone do not say are here: a picture goes with
its verdict at the latest, and a picture that the learning loop took as a sample may stay longer than others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.core.events import Reason, VerdictReached
from services.core.topology import TOPICS

LEAST_VERDICT_DAYS = 1 + max(topic.retention_hours or 0 for topic in TOPICS.values()) // 24
"""A verdict that went while Kafka still has its upload would be reached once more: an upload would have two."""

MASK_EXPIRED = Reason(code="mask_expired", text="The mask was kept for as long as it was to be kept.")


@dataclass(frozen=True, slots=True)
class Keep:
    """For how many days each is kept; 0: for ever. `samples`: pictures that became samples; 0: as long as others."""

    pictures_days: int = 0
    masks_days: int = 0
    verdicts_days: int = 0
    samples_days: int = 0


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """What is older goes; None: nothing does."""

    pictures: datetime | None
    samples: datetime | None
    masks: datetime | None
    verdicts: datetime | None

    @property
    def anything(self) -> bool:
        """Whether anything can go at all."""
        return any((self.pictures, self.masks, self.verdicts))


def cutoffs(keep: Keep, now: datetime) -> Cutoffs:
    """The moments of a tenant's rules."""
    pictures = min((days for days in (keep.pictures_days, keep.verdicts_days) if days), default=0)
    samples = max(keep.samples_days, pictures) if pictures else 0
    return Cutoffs(*(_ago(days, now) for days in (pictures, samples, keep.masks_days, keep.verdicts_days)))


def without_mask(verdict: VerdictReached) -> VerdictReached:
    """A verdict whose mask has gone, and that says so. Applied again it changes nothing."""
    if verdict.mask is None:
        return verdict
    return verdict.model_copy(update={"mask": None, "reasons": (*verdict.reasons, MASK_EXPIRED)})


def _ago(days: int, now: datetime) -> datetime | None:
    return now - timedelta(days=days) if days else None
