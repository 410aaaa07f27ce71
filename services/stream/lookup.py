"""Lookup, the shell around it: near pictures by PDQ and by vectors of parts, verified by geometry, ranked by core.

In: an accepted image. Out: ranked candidates. Where none of them covers most of it, what shares visual words with it is
verified, too. A pair that was compared before is not compared again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.clients.candidates import Candidates, Exempt, Geometries, Geometry, Neighbour, Pair, Picture
from services.clients.objects import Objects
from services.clients.stoplist import StopList
from services.core.events import Candidate, ImageIntaken, ImageUploaded, LateOriginal, VerdictReached
from services.core.intake.fingerprint import distance, orientations
from services.core.intake.lookup import MOST, rank, verify_features
from services.core.intake.regions import Embedding
from services.core.intake.stoplist import StopRules
from services.settings import IntakeSettings
from services.stream.features import PictureFeatures
from services.stream.guard import Known
from services.stream.pool import DecodePool
from services.stream.timings import Timings
from services.stream.vectors import PictureVectors
from services.stream.words import PictureWords

NO_FIT = Geometry(0, 0.0, None)


# Notes of an upload: pictures on the stop list were passed over; originals may be missing that only vectors would find,
# since not all have some, or the upload has none; or that only visual words would find, since some wait to get theirs.
STOP_LISTED = "stop_listed"
EMBEDDINGS_INCOMPLETE = "embeddings_incomplete"
NOT_EMBEDDED = "not_embedded"
WORDS_INCOMPLETE = "words_incomplete"


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, best first, and notes about the search."""

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    embedder: str | None = None
    """Whose vectors were sought; None where none were."""


class Lookup:
    """Finds what an upload may have been made from."""

    def __init__(
        self,
        *,
        objects: Objects,
        candidates: Candidates,
        geometries: Geometries,
        pool: DecodePool,
        settings: IntakeSettings,
        stops: StopList | None = None,
        vectors: PictureVectors | None = None,
        words: PictureWords | None = None,
    ) -> None:
        self._features = PictureFeatures(objects=objects, pool=pool, settings=settings)
        self._candidates = candidates
        self._geometries = geometries
        self._pool = pool
        self._settings = settings
        self._stops = stops
        self._copy_distance = (StopRules() if stops is None else stops.rules).copy_distance
        self._vectors = vectors
        self._words = words

    async def search(self, tenant: str, known: Known) -> Found:
        """As `find`, with notes about what was passed over or could not be sought."""
        embedding = await self._embedding(known)
        candidates, missed = await self._found(tenant, known, embedding)
        notes = (*known.notes, *await self._notes(tenant, known, embedding), *missed)
        return Found(candidates, notes, None if embedding is None else embedding.embedder)

    async def intaken(
        self,
        about: ImageUploaded | VerdictReached,
        known: Known,
        found: Found,
        timings: Timings,
        *,
        late: LateOriginal | None = None,
    ) -> ImageIntaken:
        """The event about an upload that was searched for, first or again because of a late original."""
        return ImageIntaken(
            upload_id=about.upload_id,
            tenant=about.tenant,
            uploaded_at=about.uploaded_at,
            filename=about.filename,
            image=known.image,
            fingerprint=known.fingerprint,
            candidates=found.candidates,
            notes=found.notes,
            index_version=await self._index_version(found),
            timings_ms=timings.milliseconds,
            late_original=late,
        )

    async def find(self, tenant: str, known: Known) -> tuple[Candidate, ...]:
        """Near pictures by PDQ and by vectors, geometrically verified, best first."""
        return (await self._found(tenant, known, await self._embedding(known)))[0]

    async def _embedding(self, known: Known) -> Embedding | None:
        """The upload's vectors, where the second stage is on and the embedder can open the upload."""
        if self._vectors is None:
            return None
        return known.embedding or await self._vectors.of(known.data)

    async def _found(
        self, tenant: str, known: Known, embedding: Embedding | None
    ) -> tuple[tuple[Candidate, ...], list[str]]:
        """What was found, best first, and notes about what the search by words may have missed."""
        near = await self._near(tenant, known, embedding)
        found, notes = await self._confirmed(known, near), list[str]()
        if self._words is not None and not any(each.overlap >= MOST for each in found):
            if not await self._words.complete(tenant):
                notes.append(WORDS_INCOMPLETE)
            there = {neighbour.picture.image.sha256 for neighbour in near}
            pictures = [each for each in await self._words.near(tenant, known) if each.image.sha256 not in there]
            found += await self._confirmed(known, [self._neighbour(picture, known) for picture in pictures])
        return rank(found, upload_sha256=known.image.sha256), notes

    async def _confirmed(self, known: Known, neighbours: Sequence[Neighbour]) -> list[Candidate]:
        """Each neighbour with what geometry says of it, confirmed or not."""
        if not neighbours:
            return []
        geometries = await self._verified(known, neighbours)
        return [n.candidate(g.inliers, g.overlap, g.homography) for n, g in zip(neighbours, geometries, strict=True)]

    async def _near(self, tenant: str, known: Known, embedding: Embedding | None) -> list[Neighbour]:
        """What is worth verifying: at most `max_candidates` pictures, PDQ's first."""
        own, at_most = known.image.sha256, self._settings.max_candidates
        found = await self._candidates.nearest(
            tenant,
            known.fingerprint,
            max_distance=self._settings.max_distance,
            ways=self._settings.orientations,
            limit=at_most + 1,  # one place may go to an earlier copy of this very file
            trusted=None if self._settings.register_uploads else True,
            exempt=Exempt(own, self._copy_distance),
        )
        by_hash = [n for n in found if n.picture.trusted or n.picture.image.sha256 != own]
        if self._vectors is None or embedding is None:
            return _cut(by_hash, at_most)
        there = {n.picture.image.sha256 for n in by_hash}
        similar = await self._vectors.near(tenant, embedding, but=own, limit=at_most + len(there))
        by_parts = [self._neighbour(s.picture, known) for s in similar if s.picture.image.sha256 not in there]
        return _dealt(by_hash, by_parts, at_most, self._vectors.places)

    def _neighbour(self, picture: Picture, known: Known) -> Neighbour:
        """What was found otherwise, with the distance that PDQ gives it: beyond `max_distance`, or among bad hashes."""
        ways = orientations(known.fingerprint.pdq)[: self._settings.orientations]
        theirs = picture.fingerprint.pdq
        return Neighbour(picture, min(distance(way, theirs) for way in ways))

    async def _notes(self, tenant: str, known: Known, embedding: Embedding | None) -> list[str]:
        notes = []
        near, ways = self._settings.max_distance, self._settings.orientations
        if self._stops and await self._stops.skipped(tenant, known.fingerprint, max_distance=near, ways=ways):
            notes.append(STOP_LISTED)
        if self._vectors is not None and embedding is None:
            notes.append(NOT_EMBEDDED)
        if self._vectors is not None and embedding is not None and not await self._vectors.complete(embedding):
            notes.append(EMBEDDINGS_INCOMPLETE)
        return notes

    async def _index_version(self, found: Found) -> str:
        """The hashes' version and, where vectors were sought, their embedder: `pdq-1/4711+regions-0.1.0`."""
        hashes = await self._candidates.index_version()
        return hashes if found.embedder is None else f"{hashes}+{found.embedder}"

    async def _verified(self, known: Known, neighbours: Sequence[Neighbour]) -> list[Geometry]:
        """How each neighbour lies on the upload. Pairs that were compared before come from the cache."""
        upload = known.image.sha256
        pairs = [(upload, neighbour.picture.image.sha256) for neighbour in neighbours]
        found = await self._geometries.known(pairs)
        missing = [n for n, pair in zip(neighbours, pairs, strict=True) if pair not in found]
        if missing:
            fresh = await self._compared(known, missing)
            await self._geometries.remember(fresh)
            found = {**found, **fresh}
        return [found.get(pair, NO_FIT) for pair in pairs]

    async def _compared(self, known: Known, neighbours: Sequence[Neighbour]) -> dict[Pair, Geometry]:
        features = await asyncio.gather(*(self._features.of(neighbour.picture) for neighbour in neighbours))
        here = [(n, file) for n, file in zip(neighbours, features, strict=True) if file is not None]
        answers = await self._pool.run(
            verify_features,
            known.data,
            tuple(file for _, file in here),
            min_inliers=self._settings.min_inliers,
            max_pixels=self._settings.max_pixels,
        )
        return {
            (known.image.sha256, n.picture.image.sha256): (
                Geometry(answer.inliers, answer.overlap, answer.homography) if answer else NO_FIT
            )
            for (n, _), answer in zip(here, answers, strict=True)
        }


def _dealt(by_hash: list[Neighbour], by_parts: list[Neighbour], at_most: int, places: int) -> list[Neighbour]:
    """`at_most` places: `places` of them for what only vectors found, if so much was found, but one is PDQ's; what PDQ
    leaves over goes to vectors, too. PDQ's come first: it is the surer of the two for whole pictures, and finds most.
    """
    kept = min(places, len(by_parts), at_most - 1)
    first = _cut(by_hash, at_most - kept)
    return first + _cut(by_parts, at_most - len(first))


def _cut(neighbours: list[Neighbour], at_most: int) -> list[Neighbour]:
    """So many of them, best first. The farthest earlier uploads go first: copies must not displace the original."""
    left = list(neighbours)
    while len(left) > at_most:
        farthest = max((place for place, each in enumerate(left) if not each.picture.trusted), default=len(left) - 1)
        del left[farthest]
    return left
