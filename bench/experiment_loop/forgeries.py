"""What the experiment is made of: photographs in three parts, and forgeries of kinds that the champion has never seen.

In: folders of photographs, kinds of edits, a seed. Out: parts that share no photograph, and `Forgery`s with originals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.fit_settings import KINDS
from trainer.sets import jpeg_bytes
from trainer.synthesis import edits, samples
from trainer.synthesis.photos import PhotoPool

QUALITY = (80, 96)  # of uploads as JPEG
ORIGINAL_QUALITY = 95
_DRAW, _TRIES = 51, 12


@dataclass(frozen=True, slots=True)
class Parts:
    """`fitted` is what the champion learns from, `uploaded` what is sent through the system, `tested` what is measured
    on. Each photograph is in one of them."""

    fitted: list[Path]
    uploaded: PhotoPool
    tested: PhotoPool


@dataclass(frozen=True, slots=True)
class Forgery:
    """An edited picture and what it was made from, as JPEG files; `mask` [S,S] bool is the truth."""

    name: str
    kind: str
    upload: bytes
    original: bytes
    mask: np.ndarray


def parts(folders: Sequence[Path], most: int) -> Parts:
    """`most` photographs at most, in the order of a hash of their names: a half, a quarter, a quarter."""
    found = sorted(PhotoPool.scan(folders, split="all").photos, key=lambda photo: _place(photo.path.stem))[:most]
    half, rest = len(found) // 2, (len(found) + 1) // 4
    uploaded, tested = PhotoPool(found[half : len(found) - rest]), PhotoPool(found[len(found) - rest :])
    return Parts([photo.path for photo in found[:half]], uploaded, tested)


def forgeries(pool: PhotoPool, kinds: Sequence[str], count: int, *, seed: int, side: int) -> Iterator[Forgery]:
    """So many forgeries of these kinds in turn; the same for the same numbers."""
    makers = {kind: make for (make, _), kind in zip(edits.EDITS, KINDS, strict=True)}
    for number in range(count):
        rng = np.random.default_rng((seed, _DRAW, number))
        kind = kinds[number % len(kinds)]
        for _ in range(_TRIES):
            host, donor = (samples.camera_scene(pool, rng, side) for _ in range(2))
            edit = makers[kind](rng, host, donor)
            if edits.SMALLEST_SHARE < edit.mask.mean() < samples.MOST_EDITED:
                break
        upload = jpeg_bytes(edit.picture, int(rng.integers(*QUALITY)))
        yield Forgery(f"{number:04}-{kind}", kind, upload, jpeg_bytes(host.picture, ORIGINAL_QUALITY), edit.mask)


def _place(stem: str) -> str:
    return hashlib.sha256(f"experiment/{stem}".encode()).hexdigest()
