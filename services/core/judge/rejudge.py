"""Re-judging: whether a verdict is reached again by the models that serve now, and whether that says anything new.

In: the verdict as it stands, who is to judge it again, who serves. Out: a reason to leave it alone, or the revised one.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.core.events import ModelVersion, Reason, Rejudging, VerdictReached
from services.core.judge.again import NEW_MODELS, first_reasons, names, stands

SUPERSEDED, MODELS_CHANGED = "superseded", "models_changed"
TOLERANCE = 0.01  # scores are shown with two digits


def cause(asked: Rejudging) -> str:
    """The cause of the revision in the ledger: asked twice for the same verdict and models, it is one revision."""
    return f"models/{asked.revision}/{'+'.join(names(asked.models))}"


def why_not(verdict: VerdictReached, asked: Rejudging) -> str | None:
    """Why the verdict stays as it is, as a slug; None where it is to be reached again.

    rejected, reviewed: see `again.stands`. superseded: it got another revision since it was asked for.
    """
    if verdict.revision != asked.revision:
        return stands(verdict) or SUPERSEDED
    return stands(verdict)


def served_by_others(asked: Rejudging, serving: Iterable[ModelVersion]) -> bool:
    """Whether others serve than those who were to judge: promoted or rolled back since."""
    return names(asked.models) != names(serving)


def revised(before: VerdictReached, fresh: VerdictReached) -> VerdictReached | None:
    """The verdict that was reached anew, with why; None where it says what the one before says.

    That is the same decision against the same original, with a score within `TOLERANCE`.
    """
    if _says(before) == _says(fresh) and abs((before.score or 0.0) - (fresh.score or 0.0)) <= TOLERANCE:
        return None
    by = " and ".join(f"{model.name} {model.version}" for model in fresh.models) or "no model"
    was = before.decision.value.replace("_", " ")
    text = f"It was judged again by {by}, because other models had judged it before; it was {was}."
    return fresh.model_copy(update={"reasons": (*first_reasons(fresh), Reason(code=NEW_MODELS, text=text))})


def _says(verdict: VerdictReached) -> tuple[str, str | None]:
    return verdict.decision.value, verdict.candidate.sha256 if verdict.candidate else None
