"""Causes: why an upload that was judged comes again.

In: an accepted upload. Out: what names its cause in the ledger, whether its verdict may change, and whom to tell what
became of it.
"""

from __future__ import annotations

from typing import Protocol

from services.clients.late import LateQueue, State
from services.clients.rejudge import RejudgeQueue
from services.core.events import ImageIntaken, VerdictReached
from services.core.judge.route import Route
from services.stream.backlog import Serving
from services.stream.late import LateCause
from services.stream.rejudge import RejudgeCause
from services.telemetry import Telemetry


class Cause(Protocol):
    """Why an upload is judged again, and whom to tell what became of it."""

    @property
    def id(self) -> str:
        """Its name in the ledger: the same cause leads to one revision of an upload."""

    async def why_not(self, verdict: VerdictReached, way: Route, serving: Serving) -> str | None:
        """Why the verdict stays as it is, as a slug; None where it is to be reached again."""

    def revised(self, before: VerdictReached, fresh: VerdictReached, way: Route) -> VerdictReached | None:
        """The verdict that was reached anew, with why; None where there is nothing new in it."""

    async def settle(self, state: State, *, reason: str | None = None, verdict: VerdictReached | None = None) -> None:
        """What became of it: in the queue, the log and the metrics. May be told again."""


class Causes:
    """Tells the cause from the event, with the queue that it came from."""

    def __init__(self, late: LateQueue, rejudge: RejudgeQueue, telemetry: Telemetry) -> None:
        self._late = late
        self._rejudge = rejudge
        self._telemetry = telemetry

    def of(self, intake: ImageIntaken) -> Cause | None:
        """Why the upload comes again; None the first time."""
        upload = (intake.tenant, intake.upload_id)
        if intake.late_original is not None:
            return LateCause(intake.late_original, *upload, self._late, self._telemetry)
        if intake.rejudging is not None:
            return RejudgeCause(intake.rejudging, *upload, self._rejudge, self._telemetry)
        return None
