"""Lookup: which registered pictures an upload was made from, best first.

In: candidates that the index found near, and their bytes. Out: those that geometry confirms, ranked. PDQ finds many,
wrongly too; a candidate counts only where local features agree on one homography.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.core.alignment import (
    MIN_INLIERS,
    WORKING_SIDE,
    Alignment,
    Features,
    align,
    extract,
    from_file,
    mirrored,
    to_file,
)
from services.core.errors import Rejected
from services.core.events import Candidate
from services.core.pixels import MAX_PIXELS, open_image, to_grey
from services.core.placement import mirror

MOST = 0.5
"""Share of the upload from which on a candidate covers most of it, and so can explain it as a whole."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How an original lies in an upload; see `alignment.Alignment`.

    `homography` is row-major 3x3; the determinant of its upper left 2x2 is negative where the upload is mirrored.
    """

    homography: tuple[float, ...]
    inliers: int
    overlap: float
    spread: float


def verify(
    upload: bytes, originals: Sequence[bytes], *, min_inliers: int = MIN_INLIERS, max_pixels: int = MAX_PIXELS
) -> tuple[Verified | None, ...]:
    """For each original, an image file, how it lies in the upload, or None where it does not: not the same picture, or
    unreadable. The original may be mirrored and turned. Raises Rejected where the upload itself cannot be opened.
    """
    return verify_features(
        upload,
        [_features_or_none(original, max_pixels) for original in originals],
        min_inliers=min_inliers,
        max_pixels=max_pixels,
    )


def verify_features(
    upload: bytes,
    originals: Sequence[bytes | None],
    *,
    min_inliers: int = MIN_INLIERS,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Verified | None, ...]:
    """As `verify`, of originals whose features are known: files of `features_of`, None for an unreadable one.

    About 110 ms for the upload on one core and 25 ms for each original. Raises Rejected, and Broken where a file of
    features is none.
    """
    target = _features(upload, max_pixels)
    return tuple(None if each is None else _verified(from_file(each), target, min_inliers) for each in originals)


def features_of(data: bytes, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The local features of an original, an image file, as a file. About 80 ms on one core. Raises Rejected."""
    return to_file(_features(data, max_pixels))


def rank(candidates: Iterable[Candidate], *, upload_sha256: str) -> tuple[Candidate, ...]:
    """Verified candidates, best first; those without a homography are left out.

    The upload's own bytes, registered by a trusted library, come first. Registered by anybody else they are no
    evidence at all and are left out: otherwise every forgery would vouch for its own copies. Then: what covers most
    of the upload, trusted sources, the earliest registration. Distance and id only make the order total.
    """
    admitted = [
        candidate
        for candidate in candidates
        if candidate.homography is not None and (candidate.trusted or candidate.sha256 != upload_sha256)
    ]
    return tuple(
        sorted(
            admitted,
            key=lambda each: (
                each.sha256 != upload_sha256,
                each.overlap < MOST,
                not each.trusted,
                each.registered_at,
                each.distance,
                each.original_id,
            ),
        )
    )


def _features(data: bytes, max_pixels: int) -> Features:
    """Local features, in coordinates of the full picture."""
    picture = open_image(data, max_pixels=max_pixels, max_side=WORKING_SIDE)
    return extract(to_grey(picture.rgb), (picture.width, picture.height))


def _features_or_none(original: bytes, max_pixels: int) -> bytes | None:
    try:
        return features_of(original, max_pixels=max_pixels)
    except Rejected:  # registered under wider limits than today's: no candidate any more, and not the upload's fault
        return None


def _verified(source: Features, upload: Features, min_inliers: int) -> Verified | None:
    found = _either_way(source, upload, min_inliers)
    if found is None:
        return None
    return Verified(tuple(float(v) for v in found.homography.ravel()), found.inliers, found.overlap, found.spread)


def _either_way(original: Features, upload: Features, min_inliers: int) -> Alignment | None:
    """The better supported of two maps: as it is, or mirrored. A symmetric picture half fits the wrong way round."""
    plain = align(original, upload, min_inliers=min_inliers)
    other = align(mirrored(original), upload, min_inliers=min_inliers)
    if other is None or (plain is not None and plain.inliers >= other.inliers):
        return plain
    return replace(other, homography=other.homography @ mirror(original.width))
