"""Packing of visual words beside the stream: now and then, once enough of them stand alone.

In: nothing. Out: packed words; no search waits for it, and none finds less meanwhile.
"""

from __future__ import annotations

import asyncio

import structlog

from services.clients.word_packing import WordPacking
from services.core.errors import Broken, Unavailable

log = structlog.get_logger()
LOOK_S = 60.0  # between two looks at whether it is due


class Packing:
    """Looks until it is cancelled; nothing raises out of it."""

    def __init__(self, packing: WordPacking) -> None:
        self._packing = packing

    async def run(self) -> None:
        """One look after the other."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Packs, where that is due and nobody else does."""
        try:
            if await self._packing.due() and (done := await self._packing.pack()) is not None:
                log.info("words_packed", postings=done.postings, pictures=done.pictures)
        except (Unavailable, Broken) as error:
            log.warning("not_packed", why=str(error))
