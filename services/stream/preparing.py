"""Preparing, the shell around it: what makes a registered original findable by its parts, and quick to verify.

In: originals of `clients/preparation.py`, which are found by their hash already. Out: their visual words in the index,
earlier uploads that share some in the queue of late originals, and their local features in the object store. It takes
0.3 s of a core for each, so it is done beside the stream, in processes of its own that give way to those of uploads and
registrations.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from services.clients.candidates import Candidates, Picture
from services.clients.objects import Objects
from services.clients.preparation import Preparation, PreparationQueue
from services.settings import IntakeSettings
from services.stream.beside import Beside, waited_s
from services.stream.features import PictureFeatures
from services.stream.timings import Timings
from services.stream.words import PictureWords
from services.telemetry import Telemetry

log = structlog.get_logger()
PREPARED = "prepared"
NICENESS = 5  # of the processes that look at originals: a third of what others get where cores are short,
PATIENCE = 3  # so that they may take three times as long


class Preparing(Beside[Preparation]):
    """Prepares what waits, as many originals at once as there are `decode_workers`. `words` None: they are off."""

    name = "prepare"

    def __init__(
        self,
        *,
        queue: PreparationQueue,
        candidates: Candidates,
        objects: Objects,
        features: PictureFeatures,
        words: PictureWords | None,
        telemetry: Telemetry,
        settings: IntakeSettings,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(telemetry, lanes=settings.decode_workers)
        self._queue = queue
        self._candidates = candidates
        self._objects = objects
        self._features = features
        self._words = words
        self._settings = settings
        self._now = now

    async def claim(self) -> Preparation | None:
        return await self._queue.claim(lease_s=self._settings.prepare_lease_s)

    async def work(self, job: Preparation) -> None:
        """What the original lacks; one that was registered again, or prepared by somebody else, lacks nothing, but
        where uploads are sought by words they are sought again: whoever prepared it may have died before that."""
        picture = job.picture
        worded = self._words is None or not await self._words.wanted(picture)
        seen = await self._features.there(picture)
        if not (worded and seen):
            with Timings(self._telemetry).stage(self.name):
                data = await self._objects.get(picture.image.object_key, self._settings.max_bytes)
                if self._words is not None and not worded:
                    await self._words.keep(picture, data)
                if not seen:
                    await self._features.keep(picture, data)
        if not await self._settle(job, PREPARED):
            await self._forget_erased(picture)

    async def postpone(self, job: Preparation, *, for_s: float) -> None:
        await self._queue.postpone(job, for_s=for_s)

    async def skip(self, job: Preparation, reason: str) -> None:
        await self._settle(job, reason)

    async def report(self) -> None:
        originals, oldest = await self._queue.waiting()
        self._telemetry.metrics.unprepared.set(originals)
        self._telemetry.metrics.unprepared_oldest.set(waited_s(oldest, self._now()))

    def about(self, job: Preparation) -> dict[str, str]:
        return {"original_id": job.picture.original_id, "tenant": job.picture.tenant}

    async def _settle(self, job: Preparation, outcome: str) -> bool:
        """Takes the original from the queue. False where it was gone from there already."""
        settled = await self._queue.settle(job)
        if settled:
            self._telemetry.metrics.prepared.labels(outcome).inc()
        tell = log.info if outcome == PREPARED else log.warning
        tell("prepare", **self.about(job), outcome=outcome, attempts=job.attempts)
        return settled

    async def _forget_erased(self, picture: Picture) -> None:
        """An original that was erased while it was looked at must leave nothing behind."""
        if await self._candidates.known(picture.image.sha256) is None:
            await self._features.forget(picture)
