"""Late originals, the shell around them: uploads that an original matches which came after them.

In: originals as they are registered, and jobs of `clients/late.py`, at their pace. Out: `ImageIntaken` with
`late_original`; in judge, the cause of the revision and what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.clients.candidates import Picture
from services.clients.late import LateJob, LateQueue, State
from services.core.events import ImageIntaken, LateOriginal, VerdictReached
from services.core.intake.stoplist import Reason, StopRules
from services.core.judge.late import cause, revised, why_not
from services.core.judge.route import Route, route
from services.core.policy import Policy
from services.settings import IntakeSettings, LateSettings
from services.stream.backlog import Backlog, Serving, Way
from services.stream.beside import LOOK_S, waited_s
from services.stream.earlier import tell
from services.stream.guard import Known
from services.telemetry import Telemetry

log = structlog.get_logger()


async def queue_uploads(
    queue: LateQueue,
    picture: Picture,
    stopped: Reason | None,
    *,
    intake: IntakeSettings,
    late: LateSettings,
    rules: StopRules,
    telemetry: Telemetry,
) -> None:
    """Queues the earlier uploads that match an original which was just registered. Raises Unavailable."""
    match stopped:
        case None:
            distance: int | None = intake.max_distance
        case "flat":
            distance = None
        case _:
            distance = min(intake.max_distance, rules.copy_distance)
    queued = await queue.add(picture, max_distance=distance, ways=intake.orientations, at_most=late.max_uploads)
    tell(picture, queued, "it matches more uploads than PENTIMENTO_LATE__MAX_UPLOADS", telemetry)


class Late(Backlog[LateJob]):
    """Takes from the queue what judge is to look at again."""

    name = "late"

    def __init__(self, way: Way, *, queue: LateQueue, policy: Policy, settings: LateSettings) -> None:
        super().__init__(way, look_s=min(LOOK_S, 1 / (settings.uploads_per_s or 1)))
        self._queue = queue
        self._policy = policy
        self._settings = settings

    async def claim(self) -> LateJob | None:
        if self._settings.uploads_per_s <= 0:
            return None
        return await self._queue.claim(pause_s=1 / self._settings.uploads_per_s, lease_s=self._settings.lease_s)

    async def event(self, job: LateJob, verdict: VerdictReached, known: Known) -> ImageIntaken | str:
        intaken = await self.looked_up(job, verdict, known)
        why = why_not(verdict, route(intaken, self._policy))
        return why or intaken.model_copy(update={"late_original": _original(job)})

    async def postpone(self, job: LateJob, *, for_s: float) -> None:
        await self._queue.postpone(job, for_s=for_s)

    async def sent(self, job: LateJob) -> None:
        await self._cause(job).settle("sent")

    async def skip(self, job: LateJob, reason: str) -> None:
        await self._cause(job).settle("skipped", reason=reason)

    async def report(self) -> None:
        uploads, oldest = await self._queue.waiting()
        self._telemetry.metrics.late_queued.set(uploads)
        self._telemetry.metrics.late_oldest.set(waited_s(oldest, self._now()))

    def _cause(self, job: LateJob) -> LateCause:
        return LateCause(_original(job), job.tenant, job.upload_id, self._queue, self._telemetry)


@dataclass(frozen=True, slots=True)
class LateCause:
    """A late original as the cause of a revision (`causes.Cause`)."""

    late: LateOriginal
    tenant: str
    upload_id: str
    queue: LateQueue
    telemetry: Telemetry

    @property
    def id(self) -> str:
        return cause(self.late)

    async def why_not(self, verdict: VerdictReached, way: Route, serving: Serving) -> str | None:
        return why_not(verdict, way)

    def revised(self, before: VerdictReached, fresh: VerdictReached, way: Route) -> VerdictReached | None:
        return revised(fresh, self.late, way)

    async def settle(self, state: State, *, reason: str | None = None, verdict: VerdictReached | None = None) -> None:
        if await self.queue.settle(self.tenant, self.upload_id, self.late.sha256, state, reason):
            self.telemetry.metrics.late.labels(reason or state).inc()
        log.info("late", upload_id=self.upload_id, tenant=self.tenant, outcome=state, reason=reason)


def _original(job: LateJob) -> LateOriginal:
    return LateOriginal(original_id=job.original_id, sha256=job.original_sha256)
