"""Guard and fingerprint, the shell around them: bytes from wherever the event points, examined and stored by content.

In: an image reference. Out: `Known`, an image that may be worked with. Content seen before is not decoded again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256

from services.clients.candidates import Candidates
from services.clients.fetch import Fetcher
from services.clients.objects import Objects
from services.core.errors import Rejected, Unavailable
from services.core.events import Fingerprint, ImageReference, InlineImage, ObjectImage, StoredImage, UrlImage
from services.core.intake.examine import Limits, examine
from services.core.intake.regions import Embedding
from services.settings import IntakeSettings
from services.stream.pool import DecodePool
from services.stream.timings import Timings

FETCH_ATTEMPTS = 3  # of a URL that does not deliver; a hostile server must not hold up its partition for long
FETCH_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """An image that passed the guard: its bytes, what it is, and what was noted on the way."""

    data: bytes
    image: StoredImage
    fingerprint: Fingerprint
    notes: tuple[str, ...] = ()
    embedding: Embedding | None = None  # where it was asked for already


class Guard:
    """Lets images in."""

    def __init__(
        self, *, objects: Objects, fetcher: Fetcher, candidates: Candidates, pool: DecodePool, settings: IntakeSettings
    ) -> None:
        self._objects = objects
        self._fetcher = fetcher
        self._candidates = candidates
        self._pool = pool
        self._settings = settings

    async def accept(self, reference: ImageReference, announced: str | None, timings: Timings) -> Known:
        """The image, guarded and fingerprinted, lying in the object store under its content hash. Raises Rejected."""
        with timings.stage("fetch"):
            data = await self._read(reference)
        with timings.stage("guard"):
            digest = (await asyncio.to_thread(sha256, data)).hexdigest()
            if announced is not None and announced != digest:
                raise Rejected("checksum_mismatch", f"Announced SHA-256 {announced}, received {digest}.")
            before = await self._candidates.known(digest)
        if before is not None:
            return Known(data, *before)
        limits = Limits(max_bytes=self._settings.max_bytes, max_pixels=self._settings.max_pixels)
        with timings.stage("fingerprint"):
            examined = await self._pool.run(examine, data, limits)
        image = examined.stored(data, digest)
        with timings.stage("store"):
            await self._objects.put(image.object_key, data, examined.media_type)
        return Known(data, image, examined.fingerprint, examined.notes)

    async def _read(self, reference: ImageReference) -> bytes:
        match reference:
            case ObjectImage(object_key=key):
                data = await self._objects.get(key, self._settings.max_bytes)
            case UrlImage(url=url):
                data = await self._fetched(url)
            case InlineImage(data=data):
                if len(data) > self._settings.inline_max_bytes:
                    text = f"{len(data)} bytes inside the event, at most {self._settings.inline_max_bytes} are allowed."
                    raise Rejected("too_large", text)
        if not data:
            raise Rejected("empty", "")
        return data

    async def _fetched(self, url: str) -> bytes:
        """Asks a URL a few times; then its slowness is the upload's own fault, not the stream's."""
        for attempt in range(1, FETCH_ATTEMPTS + 1):
            try:
                return await self._fetcher.fetch(url)
            except Unavailable as error:
                if attempt == FETCH_ATTEMPTS:
                    raise Rejected("url_too_slow", str(error)) from error
            await asyncio.sleep(FETCH_PAUSE_S * attempt)
        raise AssertionError("unreachable")
