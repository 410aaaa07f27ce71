"""Originals in memory: what intake's lookup does on Kafka and PostgreSQL, for the offline command `mask --originals`.

In: files that count as trusted originals. Out: for an upload the same ranked candidates that the stream would find.
All that decides is core's: `examine`, PDQ distance, `verify`, `rank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from services.core.events import Candidate, Fingerprint, ImageIntaken
from services.core.intake.examine import Limits, examine
from services.core.intake.fingerprint import LEAST_QUALITY, distance, orientations
from services.core.intake.keys import image_key
from services.core.intake.lookup import Verified, rank, verify
from services.settings import IntakeSettings


@dataclass(frozen=True, slots=True)
class Original:
    """A registered file."""

    path: Path
    sha256: str
    fingerprint: Fingerprint


class Library:
    """Trusted originals, searched by fingerprint and verified by geometry."""

    def __init__(self, settings: IntakeSettings) -> None:
        self._settings = settings
        self._limits = Limits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        self._originals: dict[str, Original] = {}
        self._registered_at = datetime.now(UTC)

    def register(self, path: Path, data: bytes) -> None:
        """Take a file in as an original; the same content twice is one. Raises Rejected."""
        digest = sha256(data).hexdigest()
        if digest not in self._originals:
            self._originals[digest] = Original(path, digest, examine(data, self._limits).fingerprint)

    def path_of(self, candidate: Candidate) -> Path:
        """The file behind a candidate."""
        return self._originals[candidate.sha256].path

    def intaken(self, name: str, data: bytes) -> ImageIntaken:
        """An upload as intake would pass it on, with ranked candidates. Raises Rejected; OSError for an original."""
        examined = examine(data, self._limits)
        digest = sha256(data).hexdigest()
        return ImageIntaken(
            upload_id=name[-200:],
            tenant="offline",
            uploaded_at=self._registered_at,
            filename=name[-400:],
            image=examined.stored(data, digest),
            fingerprint=examined.fingerprint,
            candidates=rank(self._verified(data, examined.fingerprint), upload_sha256=digest),
            notes=examined.notes,
            index_version=f"offline/{len(self._originals)}",
        )

    def _verified(self, upload: bytes, fingerprint: Fingerprint) -> list[Candidate]:
        """The nearest originals that geometry confirms."""
        near = self._nearest(fingerprint)
        if not near:
            return []
        answers = verify(
            upload,
            [original.path.read_bytes() for _, original in near],
            min_inliers=self._settings.min_inliers,
            max_pixels=self._settings.max_pixels,
        )
        pairs = zip(near, answers, strict=True)
        return [self._candidate(original, bits, found) for (bits, original), found in pairs if found is not None]

    def _nearest(self, fingerprint: Fingerprint) -> Sequence[tuple[int, Original]]:
        """(distance, original), nearest first: at most `max_candidates` within `max_distance`."""
        near = []
        ways = orientations(fingerprint.pdq)[: self._settings.orientations]
        for original in self._originals.values():
            trusted = min(fingerprint.pdq_quality, original.fingerprint.pdq_quality) >= LEAST_QUALITY
            bits = min(distance(way, original.fingerprint.pdq) for way in (ways if trusted else ways[:1]))
            if bits == 0 or (trusted and bits <= self._settings.max_distance):
                near.append((bits, original))
        return sorted(near, key=lambda pair: (pair[0], pair[1].sha256))[: self._settings.max_candidates]

    def _candidate(self, original: Original, bits: int, found: Verified) -> Candidate:
        return Candidate(
            original_id=original.path.name[-200:],
            sha256=original.sha256,
            object_key=image_key(original.sha256),
            trusted=True,
            source="library",
            registered_at=self._registered_at,
            distance=bits,
            inliers=found.inliers,
            overlap=found.overlap,
            homography=found.homography,
        )
