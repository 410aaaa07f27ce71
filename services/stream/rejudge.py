"""Re-judging, the shell around it: earlier uploads that the models which serve now judge again, behind everything else.

In: jobs of `clients/rejudge.py`, while little else waits. Out: `ImageIntaken` with `rejudging`; in judge, the cause of
the revision and what becomes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

import structlog

from services.clients.late import State
from services.clients.rejudge import RejudgeJob, RejudgeQueue
from services.core.events import ImageIntaken, Rejudging, VerdictReached
from services.core.judge.rejudge import MODELS_CHANGED, cause, revised, served_by_others, why_not
from services.core.judge.route import Route
from services.settings import RejudgeSettings
from services.stream.backlog import Backlog, Serving, Way
from services.stream.beside import LOOK_S
from services.stream.guard import Known
from services.telemetry import Telemetry

log = structlog.get_logger()
QUIET_S = 1.0  # how long a measured lag is believed


class Rejudge(Backlog[RejudgeJob]):
    """Takes from the queue what judge is to look at again. `lag` says how many messages wait for intake and judge."""

    name = "rejudge"

    def __init__(
        self, way: Way, *, queue: RejudgeQueue, settings: RejudgeSettings, lag: Callable[[], Awaitable[int]]
    ) -> None:
        super().__init__(way)
        self._queue = queue
        self._settings = settings
        self._lag = lag
        self._quiet_until = 0.0

    async def claim(self) -> RejudgeJob | None:
        if self._settings.uploads_per_s <= 0:
            return None
        due_in_s = await self._queue.due_in_s()
        if due_in_s is None or due_in_s > LOOK_S:
            return None
        await asyncio.sleep(due_in_s)
        if not await self._quiet():
            return None
        return await self._queue.claim(pause_s=1 / self._settings.uploads_per_s, lease_s=self._settings.lease_s)

    async def event(self, job: RejudgeJob, verdict: VerdictReached, known: Known) -> ImageIntaken | str:
        if why := why_not(verdict, job.asked):
            return why
        intaken = await self.looked_up(job, verdict, known)
        return intaken.model_copy(update={"rejudging": job.asked})

    async def postpone(self, job: RejudgeJob, *, for_s: float) -> None:
        await self._queue.postpone(job, for_s=for_s)

    async def sent(self, job: RejudgeJob) -> None:
        await self._cause(job).settle("sent")

    async def skip(self, job: RejudgeJob, reason: str) -> None:
        await self._cause(job).settle("skipped", reason=reason)

    async def report(self) -> None:
        self._telemetry.metrics.rejudge_queued.set(await self._queue.waiting())

    async def _quiet(self) -> bool:
        """Whether so little waits for intake and judge that earlier uploads may come in between."""
        if monotonic() >= self._quiet_until:
            if await self._lag() > self._settings.max_lag:
                return False
            self._quiet_until = monotonic() + QUIET_S
        return True

    def _cause(self, job: RejudgeJob) -> RejudgeCause:
        return RejudgeCause(job.asked, job.tenant, job.upload_id, self._queue, self._telemetry)


@dataclass(frozen=True, slots=True)
class RejudgeCause:
    """Other models as the cause of a revision (`causes.Cause`)."""

    asked: Rejudging
    tenant: str
    upload_id: str
    queue: RejudgeQueue
    telemetry: Telemetry

    @property
    def id(self) -> str:
        return cause(self.asked)

    async def why_not(self, verdict: VerdictReached, way: Route, serving: Serving) -> str | None:
        if why := why_not(verdict, self.asked):
            return why
        return MODELS_CHANGED if served_by_others(self.asked, await serving()) else None

    def revised(self, before: VerdictReached, fresh: VerdictReached, way: Route) -> VerdictReached | None:
        return revised(before, fresh)

    async def settle(self, state: State, *, reason: str | None = None, verdict: VerdictReached | None = None) -> None:
        if await self.queue.settle(self.tenant, self.upload_id, self.asked.run, state, reason=reason, verdict=verdict):
            self.telemetry.metrics.rejudged.labels(reason or state).inc()
        log.info("rejudge", upload_id=self.upload_id, tenant=self.tenant, outcome=state, reason=reason)
