"""THE loop beside the stream: a queue in PostgreSQL, worked through job by job.

In: jobs, each leased to the process that claimed it. Out: every job done, or given out again later, or dropped with a
reason. A job that a dead process had in work comes again when its lease is over, so that doing one twice must change
nothing. `backlog.py` and `preparing.py` say what a job is.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from datetime import datetime
from time import monotonic
from typing import Generic, Protocol, TypeVar

import structlog

from services.core.errors import Rejected, Unavailable
from services.core.judge.again import FAILED
from services.telemetry import Telemetry

log = structlog.get_logger()
LOOK_S = 0.5  # between two looks at an empty queue
REPORT_S = 5.0  # between two counts of it
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 600.0  # of a job that cannot be done yet
TRIES = 5  # of a job that raises an unexpected error, or whose decoder dies


def waited_s(since: datetime | None, now: datetime) -> float:
    """Seconds that the oldest of what waits has waited; 0 where nothing does, or a clock is behind."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


class Claimed(Protocol):
    """A job. `attempts` counts claims, this one included."""

    @property
    def attempts(self) -> int: ...


J = TypeVar("J", bound=Claimed)


class Beside(ABC, Generic[J]):
    """Works through a queue until it is cancelled. `name` is that of the stage, `lanes` how many jobs are in work at
    most."""

    name: str

    def __init__(self, telemetry: Telemetry, *, look_s: float = LOOK_S, lanes: int = 1) -> None:
        self._telemetry = telemetry
        self._look_s = look_s
        self._lanes = lanes
        self._reported = -REPORT_S

    @abstractmethod
    async def claim(self) -> J | None:
        """The next job, if one is due now."""

    @abstractmethod
    async def work(self, job: J) -> None:
        """A job to its end. Raises Rejected where it can never be done, Unavailable where it cannot be now."""

    @abstractmethod
    async def postpone(self, job: J, *, for_s: float) -> None:
        """Give a claimed job out again later."""

    @abstractmethod
    async def skip(self, job: J, reason: str) -> None:
        """The job is not done, and never will be."""

    @abstractmethod
    async def report(self) -> None:
        """Tell the metrics how much waits."""

    @abstractmethod
    def about(self, job: J) -> dict[str, str]:
        """Which job it is, for log lines."""

    async def run(self) -> None:
        """One job after the other in each lane; no job and no absence of a part ends it."""
        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._lanes):
                lanes.create_task(self._lane())

    async def one(self, job: J) -> None:
        """One job to its next step. Raises Unavailable where not even the queue can be told."""
        try:
            await self.work(job)
        except Rejected as why:  # its bytes have gone from the store, or cannot be opened any more
            # It was opened before: a decoder that dies now may only have been too slow on a busy machine.
            again = why.code == "decoder_crashed" and job.attempts < TRIES
            await (self.later(job) if again else self.skip(job, why.code))
        except Unavailable as error:
            log.warning("unavailable", dependency=error.dependency, **self.about(job), why=str(error))
            self._telemetry.retried(error.dependency)
            await self.later(job)
        except Exception as error:
            # The stage loop of this queue: a job may not end the worker, and may not be lost either.
            log.exception("job_failed", stage=self.name, **self.about(job), error=type(error).__name__)
            await (self.skip(job, FAILED) if job.attempts >= TRIES else self.later(job))

    async def later(self, job: J) -> None:
        """Postpones a job, twice as long each time."""
        await self.postpone(job, for_s=min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (min(job.attempts, 12) - 1)))

    async def _lane(self) -> None:
        while True:
            job: J | None = None
            try:
                if monotonic() - self._reported >= REPORT_S:
                    self._reported = monotonic()
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
