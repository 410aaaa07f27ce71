"""Visual words of pictures, the shell around them: seen in the decoding processes, kept in the index, sought in it.

In: the bytes of pictures that the guard let in. Out: rows, and registered pictures that an upload shares a part with.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from services.clients.candidates import Picture
from services.clients.preparation import Unprepared
from services.clients.words import WordIndex
from services.core.errors import Rejected
from services.core.intake.words import STORED, VisualWords, Vocabulary, agreed, words_of
from services.settings import WordSettings
from services.stream.earlier import EarlierUploads
from services.stream.guard import Known
from services.stream.pool import DecodePool

log = structlog.get_logger()


class PictureWords:
    """The last stage of lookup. Every method raises `Unavailable` or `Broken`, and no other but `keep`."""

    def __init__(
        self,
        *,
        index: WordIndex,
        unprepared: Unprepared,
        vocabulary: Vocabulary,
        pool: DecodePool,
        settings: WordSettings,
        max_pixels: int,
        uploads: EarlierUploads | None = None,
    ) -> None:
        """`uploads` None: their words are not kept."""
        self._index = index
        self._unprepared = unprepared
        self._vocabulary = vocabulary
        self._pool = pool
        self._settings = settings
        self._max_pixels = max_pixels
        self._uploads = uploads
        self._counting = asyncio.Lock()

    async def keep(self, original: Picture, data: bytes) -> None:
        """Make a registered original findable by any part of it, and have earlier uploads judged again that share one
        with it, where they are kept. Raises Rejected where it cannot be opened, or its process died."""
        words = await self._words(data, most=STORED)
        await self._index.add(original, words)
        if self._uploads is not None:
            await self._uploads.queue(original, words)

    async def wanted(self, original: Picture) -> bool:
        """Whether the words of an original that waits are to be seen: it has none, or uploads are sought by them."""
        return self._uploads is not None or await self._index.lacking(original)

    async def complete(self, tenant: str) -> bool:
        """Whether every original of the tenant has the words that it can have. Asked before a search, it says whether
        that search can have missed one."""
        return not await self._unprepared.any(tenant)

    async def near(self, tenant: str, upload: Known) -> list[Picture]:
        """Originals that share a part with an upload, the surest first; at most as many as there are places."""
        if self._uploads is None and await self._index.empty(tenant):
            return []
        words = await self._seen(upload.data)
        if words is None:
            return []
        if self._uploads is not None:
            await self._uploads.keep(tenant, upload, words)
        async with self._counting:  # a search of a large index holds 250 MB: one at a time in a process
            shared = await self._index.shared(tenant, words)
            votes = await asyncio.to_thread(partial(agreed, words, shared, most=self._settings.places))
        return await self._index.pictures([number for number, _ in votes])

    async def _seen(self, data: bytes) -> VisualWords | None:
        """An upload's words; None where its process died or took too long, which the upload is not refused for."""
        try:
            return await self._words(data)
        except Rejected as why:
            log.warning("no_words", code=why.code, why=str(why))
            return None

    async def _words(self, data: bytes, **most: int) -> VisualWords:
        return await self._pool.run(words_of, data, self._vocabulary, max_pixels=self._max_pixels, **most)
