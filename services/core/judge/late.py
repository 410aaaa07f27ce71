"""Late originals: whether an upload's verdict changes because of an original that came after it, and what it then says.

In: the verdict as it stands, the route that the upload would take now, the original. Out: a reason to leave the verdict
alone, or the revised one. Pure.
"""

from __future__ import annotations

from services.core.events import LateOriginal, Reason, VerdictReached
from services.core.judge.again import LATE_ORIGINAL, first_reasons, stands
from services.core.judge.route import Alone, Compare, Route

NOT_CONFIRMED, NOT_BETTER = "not_confirmed", "not_better"


def cause(late: LateOriginal) -> str:
    """The cause of the revision in the ledger, by content: an original that is registered twice is one cause."""
    return f"late/{late.sha256}"


def why_not(verdict: VerdictReached, way: Route) -> str | None:
    """Why the verdict stays as it is, as a slug; None where the upload is to be judged again.

    rejected, reviewed: see `again.stands`. not_confirmed: geometry finds no trusted original. not_better: the verdict
    was reached with the original that would be taken now.
    """
    if why := stands(verdict):
        return why
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
    return verdict.model_copy(update={"reasons": (*first_reasons(verdict), Reason(code=LATE_ORIGINAL, text=text))})
