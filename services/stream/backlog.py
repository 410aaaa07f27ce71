"""THE loop of uploads that are judged again: from a queue in PostgreSQL, looked up anew, on their way to judge.

In: jobs, at the pace of their queue. Out: `ImageIntaken` with its cause, acknowledged by the broker, for each upload
whose verdict may change; a reason for each that stays as it is. Judge gives the revision, once per cause, so that a job
which is done twice (a crash between sending and settling) is one revision. `late.py` and `rejudge.py` say which queue.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Generic, Protocol, TypeVar

import structlog

from services.clients.candidates import Candidates
from services.clients.ledger import Ledger
from services.core.errors import Rejected, Unavailable
from services.core.events import Event, ImageIntaken, ModelVersion, VerdictReached
from services.core.judge.again import CONTENT_UNKNOWN, FAILED, NO_VERDICT, REJECTED
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


class Job(Protocol):
    """An upload to be judged again. `attempts` counts claims, this one included."""

    @property
    def tenant(self) -> str: ...
    @property
    def upload_id(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def queued_at(self) -> datetime: ...


J = TypeVar("J", bound=Job)
Serving = Callable[[], Awaitable[tuple[ModelVersion, ...]]]
"""Who would judge now. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a backlog needs on the way to judge. `fetch(key)` reads the object store and `deliver(event)` returns when
    the broker has the event; they raise as `Objects.get` and `EventSender.send` do.
    """

    candidates: Candidates
    ledger: Ledger
    fetch: Callable[[str], Awaitable[bytes]]
    lookup: Lookup
    deliver: Callable[[Event], Awaitable[None]]
    telemetry: Telemetry
    now: Callable[[], datetime]


class Backlog(ABC, Generic[J]):
    """Works through a queue until it is cancelled. `name` is that of the stage."""

    name: str

    def __init__(self, way: Way, *, look_s: float = LOOK_S) -> None:
        self._way = way
        self._look_s = look_s
        self._telemetry = way.telemetry
        self._now = way.now

    @abstractmethod
    async def claim(self) -> J | None:
        """The next job, if one is due now."""

    @abstractmethod
    async def event(self, job: J, verdict: VerdictReached, known: Known) -> ImageIntaken | str:
        """What judge is to be sent, or why the verdict stays. Raises Rejected where the upload's bytes are gone."""

    @abstractmethod
    async def postpone(self, job: J, *, for_s: float) -> None:
        """Give a claimed job out again later."""

    @abstractmethod
    async def sent(self, job: J) -> None:
        """The job is judge's now."""

    @abstractmethod
    async def skip(self, job: J, reason: str) -> None:
        """The upload's verdict stays as it is."""

    @abstractmethod
    async def report(self) -> None:
        """Tell the metrics how much waits."""

    async def run(self) -> None:
        """One upload after the other; nothing raises out of it."""
        reported = -REPORT_S
        while True:
            job: J | None = None
            try:
                if monotonic() - reported >= REPORT_S:
                    reported = monotonic()
                    await self.report()
                job = await self.claim()
                if job is not None:
                    await self.one(job)
            except Unavailable as error:  # a job that was claimed comes again when its lease is over
                log.warning("unavailable", dependency=error.dependency, why=str(error), stage=self.name)
                self._telemetry.retried(error.dependency)
                await asyncio.sleep(FIRST_PAUSE_S)
            if job is None:
                await asyncio.sleep(self._look_s)

    async def one(self, job: J) -> None:
        """One upload to its next step. Raises Unavailable where not even the queue can be told."""
        try:
            await self._again(job)
        except Rejected as why:  # its bytes have gone from the store, or cannot be opened any more
            # It was opened before: a decoder that dies now may only have been too slow on a busy machine.
            again = why.code == "decoder_crashed" and job.attempts < TRIES
            await (self._later(job) if again else self.skip(job, why.code))
        except Unavailable as error:
            log.warning("unavailable", dependency=error.dependency, upload_id=job.upload_id, why=str(error))
            self._telemetry.retried(error.dependency)
            await self._later(job)
        except Exception as error:
            # The stage loop of this queue: a job may not end the worker, and may not be lost either.
            log.exception("again_failed", stage=self.name, upload_id=job.upload_id, error=type(error).__name__)
            await (self.skip(job, FAILED) if job.attempts >= TRIES else self._later(job))

    async def _again(self, job: J) -> None:
        """Sends the upload to judge, where its verdict may change."""
        verdict = await self._way.ledger.latest(job.tenant, job.upload_id)
        if verdict is None:  # it is on its way: its first verdict must come first
            waited = (self._now() - job.queued_at).total_seconds()
            await (self.skip(job, NO_VERDICT) if waited > GIVE_UP_S else self._later(job))
            return
        if verdict.image is None:
            await self.skip(job, REJECTED)
            return
        found = await self._way.candidates.known(verdict.image.sha256)
        if found is None:
            await self.skip(job, CONTENT_UNKNOWN)
            return
        outcome = await self.event(job, verdict, Known(b"", *found))
        if isinstance(outcome, str):
            await self.skip(job, outcome)
            return
        await self._way.deliver(outcome)
        await self.sent(job)

    async def looked_up(self, job: J, verdict: VerdictReached, known: Known) -> ImageIntaken:
        """The upload with the candidates that it has now. Raises Rejected where its bytes are gone."""
        timings = Timings(self._telemetry)
        with timings.stage("fetch"):
            data = await self._way.fetch(known.image.object_key)
        with timings.stage("lookup"):
            found = await self._way.lookup.search(job.tenant, Known(data, known.image, known.fingerprint))
        return await self._way.lookup.intaken(verdict, known, found, timings)

    async def _later(self, job: J) -> None:
        await self.postpone(job, for_s=min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (min(job.attempts, 12) - 1)))
