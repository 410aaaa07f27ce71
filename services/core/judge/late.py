"""Late originals: whether an upload's verdict changes because of an original that came after it, and what it then says.

In: the verdict as it stands, the route that the upload would take now, the original. Out: a reason to leave the verdict
alone, or the revised one. Pure.
"""

from __future__ import annotations

from services.core.events import LateOriginal, Path, Reason, VerdictReached
from services.core.judge.route import Alone, Compare, Route

CODE = "late_original"
NO_VERDICT, CONTENT_UNKNOWN, FAILED = "no_verdict", "content_unknown", "failed"
REJECTED, REVIEWED, NOT_CONFIRMED, NOT_BETTER = "rejected", "reviewed", "not_confirmed", "not_better"


def cause(late: LateOriginal) -> str:
    """The cause of the revision in the ledger, by content: an original that is registered twice is one cause."""
    return f"late/{late.sha256}"


def why_not(verdict: VerdictReached, way: Route) -> str | None:
    """Why the verdict stays as it is, as a slug; None where the upload is to be judged again.

    rejected: there is no picture to compare. reviewed: a person decided, and has the last word. not_confirmed: geometry
    finds no trusted original. not_better: the verdict was reached with the original that would be taken now.
    """
    if verdict.path is Path.REJECTED:
        return REJECTED
    if verdict.path is Path.REVIEWED:
        return REVIEWED
    if isinstance(way, Alone) or not way.candidate.trusted:
        return NOT_CONFIRMED
    used = verdict.candidate
    if used is not None and used.trusted and used.sha256 == way.candidate.sha256:
        return NOT_BETTER
    return None


def revised(verdict: VerdictReached, late: LateOriginal, way: Route) -> VerdictReached:
    """A verdict that was reached anew, with why. The ledger gives it its revision."""
    which = way.candidate.original_id if isinstance(way, Compare) else late.original_id
    text = f"It was judged again, because the original {which} was registered after it had been looked up."
    return verdict.model_copy(update={"reasons": (*first_reasons(verdict), Reason(code=CODE, text=text))})


def first_reasons(verdict: VerdictReached) -> tuple[Reason, ...]:
    """A verdict's reasons without the one about being judged again, which holds for that one upload only."""
    return tuple(reason for reason in verdict.reasons if reason.code != CODE)
