"""Lookup, the shell around it: near pictures by PDQ, each verified by geometry, ranked by core.

In: an accepted image. Out: ranked candidates. A pair that was compared before is not compared again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.clients.candidates import Candidates, Exempt, Geometries, Geometry, Neighbour, Pair
from services.clients.objects import Objects
from services.clients.stoplist import StopList
from services.core.errors import Rejected
from services.core.events import Candidate, ImageIntaken, ImageUploaded, LateOriginal, VerdictReached
from services.core.intake.lookup import rank, verify
from services.core.intake.stoplist import StopRules
from services.settings import IntakeSettings
from services.stream.guard import Known
from services.stream.pool import DecodePool
from services.stream.timings import Timings

log = structlog.get_logger()
NO_FIT = Geometry(0, 0.0, None)


STOP_LISTED = "stop_listed"  # the note of an upload for which pictures on the stop list were passed over


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, best first, and notes about the search."""

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


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
        copy_distance: int = StopRules().copy_distance,
    ) -> None:
        self._objects = objects
        self._candidates = candidates
        self._geometries = geometries
        self._pool = pool
        self._settings = settings
        self._stops = stops
        self._copy_distance = copy_distance

    async def search(self, tenant: str, known: Known) -> Found:
        """As `find`, with the note `stop_listed` where pictures that are near were passed over."""
        candidates = await self.find(tenant, known)
        near, ways = self._settings.max_distance, self._settings.orientations
        if self._stops and await self._stops.skipped(tenant, known.fingerprint, max_distance=near, ways=ways):
            return Found(candidates, (*known.notes, STOP_LISTED))
        return Found(candidates, known.notes)

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
            index_version=await self._candidates.index_version(),
            timings_ms=timings.milliseconds,
            late_original=late,
        )

    async def find(self, tenant: str, known: Known) -> tuple[Candidate, ...]:
        """Near pictures by PDQ, geometrically verified, best first."""
        neighbours = await self._candidates.nearest(
            tenant,
            known.fingerprint,
            max_distance=self._settings.max_distance,
            ways=self._settings.orientations,
            limit=self._settings.max_candidates + 1,  # one place may go to an earlier copy of this very file
            trusted=None if self._settings.register_uploads else True,
            exempt=Exempt(known.image.sha256, self._copy_distance),
        )
        own = known.image.sha256
        others = [n for n in neighbours if n.picture.trusted or n.picture.image.sha256 != own]
        others = _cut(others, self._settings.max_candidates)
        if not others:
            return ()
        geometries = await self._verified(known, others)
        found = [_candidate(neighbour, geometry) for neighbour, geometry in zip(others, geometries, strict=True)]
        return rank(found, upload_sha256=known.image.sha256)

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
        fetched = await asyncio.gather(*(self._original(neighbour) for neighbour in neighbours))
        here = [(n, data) for n, data in zip(neighbours, fetched, strict=True) if data is not None]
        answers = await self._pool.run(
            verify,
            known.data,
            tuple(data for _, data in here),
            min_inliers=self._settings.min_inliers,
            max_pixels=self._settings.max_pixels,
        )
        return {
            (known.image.sha256, n.picture.image.sha256): (
                Geometry(answer.inliers, answer.overlap, answer.homography) if answer else NO_FIT
            )
            for (n, _), answer in zip(here, answers, strict=True)
        }

    async def _original(self, neighbour: Neighbour) -> bytes | None:
        """The bytes of a registered picture; None where it has gone from the store, which is no fault of the upload."""
        picture = neighbour.picture
        try:
            return await self._objects.get(picture.image.object_key, self._settings.max_bytes)
        except Rejected as why:
            log.warning("original_missing", original_id=picture.original_id, why=str(why))
            return None


def _cut(neighbours: list[Neighbour], at_most: int) -> list[Neighbour]:
    """So many of them, nearest first. The farthest earlier uploads go first: copies must not displace the original."""
    left = list(neighbours)
    while len(left) > at_most:
        farthest = max((place for place, each in enumerate(left) if not each.picture.trusted), default=len(left) - 1)
        del left[farthest]
    return left


def _candidate(neighbour: Neighbour, geometry: Geometry) -> Candidate:
    picture = neighbour.picture
    return Candidate(
        original_id=picture.original_id,
        sha256=picture.image.sha256,
        object_key=picture.image.object_key,
        trusted=picture.trusted,
        source=picture.source,
        registered_at=picture.registered_at,
        distance=neighbour.distance,
        inliers=geometry.inliers,
        overlap=geometry.overlap,
        homography=geometry.homography,
    )
