"""The stages that compare pictures without a network: what each looks like, which belong together, which are copies.

In: pictures of the store by their SHA-256. Out: facts, as JSON values, for journals. Everything that decodes runs in
`workers`, one picture, one forged picture or one group of forgeries at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from services.core.intake.examine import Limits, examine
from services.core.intake.fingerprint import LEAST_QUALITY, MAX_DISTANCE, distance, orientations
from services.core.intake.lookup import MOST, verify
from services.core.pixels import open_image
from trainer.harvest.journal import Facts, Store

MOST_VERIFIED = 5
"""Originals nearest by PDQ that geometry looks at for one forged picture."""

COPY_DISTANCE = 31
"""PDQ distance up to which its authors call a picture a copy. It only says what to compare by pixels: two small edits
of one original are as near."""

COPY_SIDE = 256  # pixels of the longer side at which copies are compared
COPY_LEVELS = 24.0  # of 255 that a patch of a copy may differ by, as it does where it was recompressed
_PATCH = (5, 5)

Hashes = npt.NDArray[np.uint64]


def look(store: Store, limits: Limits, digest: str) -> Facts:
    """What is known of a picture once it was decoded. Raises Rejected."""
    seen = examine(store.path(digest).read_bytes(), limits)
    return {
        "sha256": digest,
        "width": seen.width,
        "height": seen.height,
        "format": seen.format,
        "pdq": seen.fingerprint.pdq,
        "pdq_quality": seen.fingerprint.pdq_quality,
    }


@dataclass(frozen=True, slots=True)
class Originals:
    """A pool of originals, [N] of each: digests, hashes [N,4] uint64, and whether a hash says enough to be compared."""

    digests: tuple[str, ...]
    hashes: Hashes
    telling: npt.NDArray[np.bool_]

    def near(self, forged: Mapping[str, Any]) -> list[tuple[int, str]]:
        """(distance, digest) of those that may be a forged picture's original in any of eight orientations, nearest
        first, at most `MOST_VERIFIED`; the very same bytes are none."""
        ways = orientations(forged["pdq"])
        bits = np.min([self._distances(way) for way in ways], axis=0)
        telling = self.telling & (forged["pdq_quality"] >= LEAST_QUALITY)
        close = np.flatnonzero((telling & (bits <= MAX_DISTANCE)) | (self._distances(ways[0]) == 0))
        found = sorted((int(bits[at]), self.digests[at]) for at in close if self.digests[at] != forged["sha256"])
        return found[:MOST_VERIFIED]

    def _distances(self, pdq: str) -> npt.NDArray[np.int64]:
        """[N] bits in which each hash differs from one."""
        return np.asarray(np.bitwise_count(self.hashes ^ _words(pdq)).sum(axis=1, dtype=np.int64))


def originals(pictures: Sequence[Mapping[str, Any]]) -> Originals:
    """The pool of some pictures, as `look` has them; there must be one at least."""
    return Originals(
        tuple(picture["sha256"] for picture in pictures),
        np.stack([_words(picture["pdq"]) for picture in pictures]),
        np.array([picture["pdq_quality"] >= LEAST_QUALITY for picture in pictures]),
    )


def _words(pdq: str) -> Hashes:
    return np.frombuffer(bytes.fromhex(pdq), np.uint64)


@dataclass(frozen=True, slots=True)
class Near:
    """A forged picture and the originals it may have been made from, (distance, digest), nearest first."""

    forged: str
    originals: tuple[tuple[int, str], ...]


def pair(store: Store, near: Near) -> Facts:
    """The original that geometry confirms best: what covers most of the picture, then by matches. Raises Rejected."""
    answers = verify(
        store.path(near.forged).read_bytes(), [store.path(digest).read_bytes() for _, digest in near.originals]
    )
    found = [(each, bits, digest) for each, (bits, digest) in zip(answers, near.originals, strict=True) if each]
    if not found:
        return {"original": None}
    best, bits, digest = max(found, key=lambda one: (one[0].overlap >= MOST, one[0].inliers))
    return {"original": digest, "distance": bits, "inliers": best.inliers, "overlap": round(best.overlap, 4)}


def may_be_copies(pictures: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any two pictures are near enough to be compared by pixels."""
    return any(
        distance(first["pdq"], second["pdq"]) <= COPY_DISTANCE
        for number, first in enumerate(pictures)
        for second in pictures[:number]
    )


def copies(store: Store, pictures: Sequence[Mapping[str, Any]]) -> Facts:
    """Of pictures made from one original, those that are an earlier one once more: digest to the earlier's."""
    kept: list[tuple[str, str, npt.NDArray[np.float32]]] = []
    found: dict[str, str] = {}
    for picture in pictures:
        rgb = open_image(store.path(picture["sha256"]).read_bytes(), max_side=COPY_SIDE).rgb.astype(np.float32)
        near = (other for other in kept if distance(picture["pdq"], other[1]) <= COPY_DISTANCE)
        first = next((digest for digest, _, earlier in near if _is_copy(rgb, earlier)), None)
        if first is None:
            kept.append((picture["sha256"], picture["pdq"], rgb))
        else:
            found[picture["sha256"]] = first
    return {"copies": found}


def _is_copy(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> bool:
    """Whether two pictures [H,W,3] 0..255 differ nowhere by more than saving again explains."""
    size = (first.shape[1], first.shape[0])
    if max(abs(second.shape[0] - size[1]), abs(second.shape[1] - size[0])) > 2:
        return False
    gap = cv2.blur(np.abs(first - cv2.resize(second, size, interpolation=cv2.INTER_AREA)), _PATCH)
    return float(gap.max()) <= COPY_LEVELS
