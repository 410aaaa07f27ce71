"""Judged again: what a late original and a new model have in common. Pure.

In: a verdict as it stands. Out: whether it may be reached again at all, and its reasons without those about that.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.core.events import ModelVersion, Path, Reason, VerdictReached

LATE_ORIGINAL, NEW_MODELS = "late_original", "new_models"  # codes of the reasons for a revision
REJECTED, REVIEWED = "rejected", "reviewed"
NO_VERDICT, CONTENT_UNKNOWN, FAILED = "no_verdict", "content_unknown", "failed"


def stands(verdict: VerdictReached) -> str | None:
    """Why nothing but a person may change the verdict, as a slug.

    rejected: there is no picture to look at. reviewed: a person decided, and has the last word.
    """
    if verdict.path is Path.REJECTED:
        return REJECTED
    return REVIEWED if verdict.path is Path.REVIEWED else None


def first_reasons(verdict: VerdictReached) -> tuple[Reason, ...]:
    """A verdict's reasons without those about being judged again, which hold for that one upload only."""
    return tuple(reason for reason in verdict.reasons if reason.code not in (LATE_ORIGINAL, NEW_MODELS))


def names(models: Iterable[ModelVersion]) -> list[str]:
    """Models as the database names them: `name@version`, sorted, each once."""
    return sorted({f"{model.name}@{model.version}" for model in models})
