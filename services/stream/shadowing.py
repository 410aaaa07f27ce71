"""A shadow run: a challenger judges a share of the uploads too, beside the verdict and after it.

In: uploads with their verdicts. Out: rows for people to compare. It never delays, changes or loses a verdict: it begins
when the verdict is in the ledger, works in the background on a few uploads at once, passes over the rest, and whatever
goes wrong is a line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from services.clients.localisation import Localisation
from services.clients.models import Models
from services.clients.objects import Objects
from services.clients.shadows import Shadows
from services.core.errors import PentimentoError
from services.core.events import ImageIntaken, Path, StoredImage, VerdictReached
from services.core.judge.mask import describe, to_full_resolution
from services.core.judge.shadow import Shadow, shadow
from services.core.judge.verdict import Finding
from services.core.pixels import read_mask_png
from services.core.policy import Policy, chosen

log = structlog.get_logger()

Handle = Callable[[ImageIntaken], Awaitable[Sequence[VerdictReached]]]


class Shadowing:
    """Asks the challenger. `models` are its client; `share` 0..1 of the uploads, at most `in_flight` at once."""

    def __init__(
        self,
        *,
        models: Models,
        objects: Objects,
        shadows: Shadows,
        policy: Policy,
        max_bytes: int,
        share: float,
        in_flight: int,
    ) -> None:
        self._models = models
        self._objects = objects
        self._shadows = shadows
        self._policy = policy
        self._max_bytes = max_bytes
        self._share = share
        self._in_flight = in_flight
        self._work: set[asyncio.Task[None]] = set()

    def beside(self, judge: Handle) -> Handle:
        """What judges uploads, with the challenger beside it."""

        async def intaken(intake: ImageIntaken) -> Sequence[VerdictReached]:
            verdicts = await judge(intake)
            for verdict in verdicts:
                self.offer(intake, verdict)
            return verdicts

        return intaken

    def offer(self, intake: ImageIntaken, verdict: VerdictReached) -> None:
        """Have the challenger judge this upload too, if it is one of the share and there is room. Returns at once."""
        if verdict.path is not Path.UNCONSTRAINED or len(verdict.models) != 1 or verdict.revision:
            return
        if len(self._work) >= self._in_flight or not chosen(f"shadow/{intake.image.sha256}", self._share):
            return
        task = asyncio.create_task(self._judge(intake.image, verdict))
        self._work.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Give up what is in work."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _judge(self, image: StoredImage, verdict: VerdictReached) -> None:
        upload = await self._objects.get(image.object_key, self._max_bytes)
        answer = await self._models.unconstrained(upload)
        await self._shadows.add(await asyncio.to_thread(self._compared, image, answer, verdict))

    def _compared(self, image: StoredImage, answer: Localisation, verdict: VerdictReached) -> Shadow:
        grey, _ = read_mask_png(answer.png)
        full = to_full_resolution(grey, image.width, image.height)
        mask = describe(full, threshold=self._policy.mask_threshold, qes=answer.qes, object_key="not stored")
        finding = Finding(answer.model, answer.score, mask, notes=answer.notes, copies=answer.copies)
        return shadow(verdict, finding, answer.seconds, self._policy)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        expected = isinstance(error, PentimentoError)
        log.warning("shadow_failed", error=str(error), exc_info=None if expected else error)
