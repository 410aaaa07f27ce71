"""Late originals by visual words, the shell around them: uploads kept by their words, until an original shares some.

In: uploads that nothing covered, originals as they are prepared, with the words of either. Out: rows, and uploads in
the queue of late originals, beside those that `late.py` puts there by their hash.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from services.clients.candidates import Picture
from services.clients.late import LateQueue, Queued
from services.clients.upload_words import UploadWords
from services.core.intake.earlier import MOST_EARLIER, worth_looking
from services.core.intake.words import VisualWords
from services.settings import LateSettings
from services.stream.guard import Known
from services.telemetry import Telemetry

log = structlog.get_logger()


class EarlierUploads:
    """Earlier uploads and their words. Every method raises `Unavailable` or `Broken` only.

    An upload is kept before it is searched for, and an original before its uploads are sought: so of two that come at
    once at least one sees the other.
    """

    def __init__(self, *, words: UploadWords, queue: LateQueue, settings: LateSettings, telemetry: Telemetry) -> None:
        self._words = words
        self._queue = queue
        self._at_most = min(settings.max_uploads, MOST_EARLIER)
        self._telemetry = telemetry
        self._counting = asyncio.Lock()

    async def keep(self, tenant: str, upload: Known, words: VisualWords) -> None:
        """Keep what was seen of a registered upload. Repeating it changes nothing."""
        await self._words.keep(tenant, upload.image.sha256, words)

    async def queue(self, original: Picture, words: VisualWords) -> None:
        """Queue the uploads that share words with an original. Repeating it changes nothing."""
        async with self._counting:  # a search of a large index holds 250 MB: one at a time
            shared = await self._words.shared(original.tenant, words)
            numbers = await asyncio.to_thread(partial(worth_looking, words, shared, most=self._at_most + 1))
        contents = await self._words.contents(original, numbers)
        queued = await self._queue.add_these(original, contents, at_most=self._at_most)
        tell(original, queued, "it shares visual words with more uploads than are taken", self._telemetry)


def tell(original: Picture, queued: Queued, why_cut: str, telemetry: Telemetry) -> None:
    """Log lines and metric of what an original brought."""
    if queued.uploads:
        log.info("late_original", original_id=original.original_id, tenant=original.tenant, uploads=queued.uploads)
    if queued.cut:
        telemetry.metrics.late_cut.inc()
        log.warning("late_original_cut", original_id=original.original_id, tenant=original.tenant, why=why_cut)
