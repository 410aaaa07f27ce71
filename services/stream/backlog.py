"""What happens to uploads that are judged again: from a queue in PostgreSQL, looked up anew, on their way to judge.

In: jobs, at the pace of their queue. Out: `ImageIntaken` with its cause, acknowledged by the broker, for each upload
whose verdict may change; a reason for each that stays as it is. Judge gives the revision, once per cause, so that a job
which is done twice (a crash between sending and settling) is one revision. `late.py` and `rejudge.py` say which queue.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from services.clients.candidates import Candidates
from services.clients.ledger import Ledger
from services.core.events import Event, ImageIntaken, ModelVersion, VerdictReached
from services.core.judge.again import CONTENT_UNKNOWN, NO_VERDICT, REJECTED
from services.stream.beside import LOOK_S, Beside
from services.stream.guard import Known
from services.stream.lookup import Lookup
from services.stream.timings import Timings
from services.telemetry import Telemetry

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


class Backlog(Beside[J]):
    """Works through a queue of uploads until it is cancelled."""

    def __init__(self, way: Way, *, look_s: float = LOOK_S) -> None:
        super().__init__(way.telemetry, look_s=look_s)
        self._way = way
        self._now = way.now

    @abstractmethod
    async def event(self, job: J, verdict: VerdictReached, known: Known) -> ImageIntaken | str:
        """What judge is to be sent, or why the verdict stays. Raises Rejected where the upload's bytes are gone."""

    @abstractmethod
    async def sent(self, job: J) -> None:
        """The job is judge's now."""

    async def work(self, job: J) -> None:
        """Sends the upload to judge, where its verdict may change."""
        verdict = await self._way.ledger.latest(job.tenant, job.upload_id)
        if verdict is None:  # it is on its way: its first verdict must come first
            waited = (self._now() - job.queued_at).total_seconds()
            await (self.skip(job, NO_VERDICT) if waited > GIVE_UP_S else self.later(job))
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

    def about(self, job: J) -> dict[str, str]:
        return {"upload_id": job.upload_id, "tenant": job.tenant}
