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
    ) -> None:
        self._index = index
        self._unprepared = unprepared
        self._vocabulary = vocabulary
        self._pool = pool
        self._settings = settings
        self._max_pixels = max_pixels
        self._counting = asyncio.Lock()

    async def keep(self, picture: Picture, data: bytes) -> None:
        """Make a trusted original findable by any part of it. Earlier uploads are left to the other stages.

        Raises Rejected where it cannot be opened, or its process died.
        """
        if picture.trusted:
            await self._index.add(picture, await self._words(data, most=STORED))

    async def lacking(self, picture: Picture) -> bool:
        """Whether a registered original has no words yet."""
        return await self._index.lacking(picture)

    async def complete(self, tenant: str) -> bool:
        """Whether every original of the tenant has the words that it can have. Asked before a search, it says whether
        that search can have missed one."""
        return not await self._unprepared.any(tenant)

    async def near(self, tenant: str, data: bytes) -> list[Picture]:
        """Originals that share a part with an upload, the surest first; at most as many as there are places."""
        if await self._index.empty(tenant):
            return []
        words = await self._seen(data)
        if words is None:
            return []
        async with self._counting:  # a search of a large index holds 100 MB: one at a time in a process
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
