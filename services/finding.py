"""A picture looked for among originals and earlier uploads, as intake would, without becoming an upload.

In: a tenant and the bytes of a file. Out: what it is, what is near by its hash, and what lookup confirms. Guarded and
decoded like an upload, in a process of its own; nothing of it is stored, not even that it was compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from hashlib import sha256

from services.clients.candidates import Candidates, Geometries, Geometry, Pair
from services.clients.database import Database
from services.clients.embedders import Embedders
from services.clients.embeddings import Embeddings
from services.clients.models import Watch
from services.clients.objects import Objects
from services.clients.preparation import Unprepared
from services.clients.stoplist import StopList
from services.clients.words import WordIndex
from services.core.events import StoredImage
from services.core.intake.examine import Limits, examine
from services.opening import open_embedder, open_vocabulary, stop_rules
from services.settings import IntakeSettings, Settings
from services.stream.guard import Known
from services.stream.lookup import Lookup
from services.stream.pool import DecodePool
from services.stream.vectors import PictureVectors
from services.stream.words import PictureWords
from services.web.parts import Sought

NEAR = 24  # pictures near by hash
AT_ONCE = 1  # pictures that are looked for beside each other


class Unremembered(Geometries):
    """Verified pairs that are read and never added to: a picture that somebody only looks for leaves no trace."""

    async def remember(self, verified: Mapping[Pair, Geometry]) -> None:
        """Nothing."""


class PictureFinder:
    """Looks for pictures. Raises Rejected for what intake would reject, Unavailable, or Broken."""

    def __init__(self, *, candidates: Candidates, lookup: Lookup, pool: DecodePool, settings: IntakeSettings) -> None:
        self._candidates = candidates
        self._lookup = lookup
        self._pool = pool
        self._settings = settings
        self._room = asyncio.Semaphore(AT_ONCE)

    async def seek(self, tenant: str, data: bytes) -> Sought:
        """What a picture is near to, and what it shows the same things as."""
        async with self._room:
            digest = (await asyncio.to_thread(sha256, data)).hexdigest()
            limits = Limits(max_bytes=self._settings.max_bytes, max_pixels=self._settings.max_pixels)
            examined = await self._pool.run(examine, data, limits)
            image: StoredImage = examined.stored(data, digest)
            near = await self._candidates.nearest(
                tenant,
                examined.fingerprint,
                max_distance=self._settings.max_distance,
                ways=self._settings.orientations,
                limit=NEAR,
            )
            found = await self._lookup.search(tenant, Known(data, image, examined.fingerprint, examined.notes))
        return Sought(image, examined.fingerprint, tuple(near), found.candidates, found.notes)


def open_finder(settings: Settings, database: Database, objects: Objects, stack: AsyncExitStack) -> PictureFinder:
    """Lookup as `intake` has it by the same settings, closed with `stack`. Starts no process until a picture comes."""
    pool = DecodePool(workers=1, timeout_s=settings.intake.decode_timeout_s)
    stack.callback(pool.close)
    candidates = Candidates(database)
    lookup = Lookup(
        objects=objects,
        candidates=candidates,
        geometries=Unremembered(database),
        pool=pool,
        settings=settings.intake,
        stops=StopList(database, stop_rules(settings.stop_list)),
        vectors=_vectors(settings, database, stack),
        words=_words(settings, database, pool),
    )
    return PictureFinder(candidates=candidates, lookup=lookup, pool=pool, settings=settings.intake)


def _vectors(settings: Settings, database: Database, stack: AsyncExitStack) -> PictureVectors | None:
    if not settings.embedder.enabled:
        return None
    embedder = open_embedder(settings.models, Watch())
    stack.push_async_callback(embedder.close)
    return PictureVectors(
        embedder=embedder,
        embedders=Embedders(database),
        embeddings=Embeddings(database),
        settings=settings.embedder,
    )


def _words(settings: Settings, database: Database, pool: DecodePool) -> PictureWords | None:
    if not settings.words.enabled:
        return None
    vocabulary = open_vocabulary()
    return PictureWords(
        index=WordIndex(database, vocabulary.name),
        unprepared=Unprepared(database),
        vocabulary=vocabulary,
        pool=pool,
        settings=settings.words,
        max_pixels=settings.intake.max_pixels,
    )
