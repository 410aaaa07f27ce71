"""Late originals, the shell around them: uploads from the queue, looked up anew, on their way to be judged again.

In: jobs of `clients/late.py`, at their pace. Out: `ImageIntaken` with `late_original`, acknowledged by the broker, for
each upload whose verdict may change; a reason for each that stays as it is. Judge gives the revision, once per cause,
so that a job which is done twice (a crash between sending and settling) is one revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

import structlog

from services.clients.candidates import Candidates, Picture
from services.clients.late import LateJob, LateQueue
from services.clients.ledger import Ledger
from services.core.errors import Rejected, Unavailable
from services.core.events import Event, ImageIntaken, LateOriginal, VerdictReached
from services.core.intake.stoplist import Reason, StopRules
from services.core.judge.late import CONTENT_UNKNOWN, FAILED, NO_VERDICT, REJECTED, why_not
from services.core.judge.route import route
from services.core.policy import Policy
from services.settings import IntakeSettings, LateSettings
from services.stream.guard import Known
from services.stream.lookup import Lookup
from services.stream.timings import Timings
from services.telemetry import Telemetry

log = structlog.get_logger()
LOOK_S = 0.5  # between two looks at an empty queue
REPORT_S = 5.0  # between two counts of it
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0  # of an upload that cannot be judged again yet
TRIES = 5  # of an upload that raises an unexpected error
GIVE_UP_S = 24 * 3600.0  # an upload without a verdict for so long lies in the dead letters


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
    if queued.uploads:
        log.info("late_original", original_id=picture.original_id, tenant=picture.tenant, uploads=queued.uploads)
    if queued.cut:
        telemetry.metrics.late_cut.inc()
        why = "it matches more uploads than PENTIMENTO_LATE__MAX_UPLOADS"
        log.warning("late_original_cut", original_id=picture.original_id, tenant=picture.tenant, why=why)


@dataclass(frozen=True, slots=True)
class Tables:
    """What is read and written of the database."""

    queue: LateQueue
    candidates: Candidates
    ledger: Ledger


class Late:
    """Works through the queue until it is cancelled. `fetch(key)` reads the object store and `deliver(event)` returns
    when the broker has the event; they raise as `Objects.get` and `EventSender.send` do.
    """

    def __init__(
        self,
        *,
        tables: Tables,
        fetch: Callable[[str], Awaitable[bytes]],
        lookup: Lookup,
        policy: Policy,
        settings: LateSettings,
        deliver: Callable[[Event], Awaitable[None]],
        telemetry: Telemetry,
        now: Callable[[], datetime],
    ) -> None:
        self._queue = tables.queue
        self._candidates = tables.candidates
        self._ledger = tables.ledger
        self._fetch = fetch
        self._lookup = lookup
        self._policy = policy
        self._settings = settings
        self._deliver = deliver
        self._telemetry = telemetry
        self._now = now

    async def run(self) -> None:
        """One upload after the other, at the pace of the settings; nothing raises out of it."""
        reported = -REPORT_S
        while True:
            job: LateJob | None = None
            try:
                if monotonic() - reported >= REPORT_S:
                    reported = monotonic()
                    await self._report()
                if self._settings.uploads_per_s > 0:
                    pause_s = 1 / self._settings.uploads_per_s
                    job = await self._queue.claim(pause_s=pause_s, lease_s=self._settings.lease_s)
                if job is not None:
                    await self.one(job)
            except Unavailable as error:  # a job that was claimed comes again when its lease is over
                log.warning("unavailable", dependency=error.dependency, why=str(error), stage="late")
                self._telemetry.retried(error.dependency)
                await asyncio.sleep(FIRST_PAUSE_S)
            if job is None:
                await asyncio.sleep(min(LOOK_S, 1 / (self._settings.uploads_per_s or 1)))

    async def one(self, job: LateJob) -> None:
        """One upload to its next step. Raises Unavailable where not even the queue can be told."""
        try:
            await self._again(job)
        except Rejected as why:  # its bytes have gone from the store, or cannot be opened any more
            # It was opened before: a decoder that dies now may only have been too slow on a busy machine.
            again = why.code == "decoder_crashed" and job.attempts < TRIES
            await (self._later(job) if again else self._skip(job, why.code))
        except Unavailable as error:
            log.warning("unavailable", dependency=error.dependency, upload_id=job.upload_id, why=str(error))
            self._telemetry.retried(error.dependency)
            await self._later(job)
        except Exception as error:
            # The stage loop of this queue: a job may not end the worker, and may not be lost either.
            log.exception("late_failed", upload_id=job.upload_id, error=type(error).__name__, attempts=job.attempts)
            await (self._skip(job, FAILED) if job.attempts >= TRIES else self._later(job))

    async def _again(self, job: LateJob) -> None:
        """Looks the upload up anew and sends it to judge, where its verdict may change."""
        verdict = await self._ledger.latest(job.tenant, job.upload_id)
        if verdict is None:  # it is on its way: its first verdict must come first
            waited = (self._now() - job.queued_at).total_seconds()
            await (self._skip(job, NO_VERDICT) if waited > GIVE_UP_S else self._later(job))
            return
        if verdict.image is None:
            await self._skip(job, REJECTED)
            return
        found = await self._candidates.known(verdict.image.sha256)
        if found is None:
            await self._skip(job, CONTENT_UNKNOWN)
            return
        intaken = await self._looked_up(job, verdict, Known(b"", *found))
        if why := why_not(verdict, route(intaken, self._policy)):
            await self._skip(job, why)
            return
        await self._deliver(intaken)
        if await self._queue.settle(job.tenant, job.upload_id, job.original_sha256, "sent"):
            self._telemetry.metrics.late.labels("sent").inc()
        log.info("late", upload_id=job.upload_id, original_id=job.original_id, outcome="sent")

    async def _looked_up(self, job: LateJob, verdict: VerdictReached, known: Known) -> ImageIntaken:
        """The upload with the candidates that it has now. Raises Rejected where its bytes are gone."""
        timings = Timings(self._telemetry)
        with timings.stage("fetch"):
            data = await self._fetch(known.image.object_key)
        with timings.stage("lookup"):
            found = await self._lookup.search(job.tenant, Known(data, known.image, known.fingerprint))
        late = LateOriginal(original_id=job.original_id, sha256=job.original_sha256)
        return await self._lookup.intaken(verdict, known, found, timings, late=late)

    async def _skip(self, job: LateJob, reason: str) -> None:
        await skipped(self._queue, job.tenant, job.upload_id, job.original_sha256, reason, self._telemetry)

    async def _later(self, job: LateJob) -> None:
        await self._queue.postpone(job, for_s=min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (min(job.attempts, 12) - 1)))

    async def _report(self) -> None:
        uploads, oldest = await self._queue.waiting()
        self._telemetry.metrics.late_queued.set(uploads)
        age = (self._now() - oldest).total_seconds() if oldest is not None else 0.0
        self._telemetry.metrics.late_oldest.set(max(0.0, age))


async def skipped(
    queue: LateQueue, tenant: str, upload_id: str, original_sha256: str, reason: str, telemetry: Telemetry
) -> None:
    """Says why an upload's verdict stays as it is: in the queue, the log and the metrics."""
    if await queue.settle(tenant, upload_id, original_sha256, "skipped", reason):
        telemetry.metrics.late.labels(reason).inc()
    log.info("late", upload_id=upload_id, tenant=tenant, outcome="skipped", reason=reason)
