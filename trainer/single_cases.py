"""The pictures that the single-image path is measured on, as files with what is known of them.

In: folders of real forgeries with a `manifest.csv`, and photographs. Out: `SingleItem`s, and what platforms do to them.
Real forgeries are only ever measured; generated ones come from photographs that neither fit nor calibration has seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from services.core.pixels import encode_png, open_image
from trainer.sets import Mask, cases, jpeg_bytes, read_mask
from trainer.synthesis import samples
from trainer.synthesis.photos import Photo, PhotoPool

SEED = 20261125
CALIBRATION_SEED = 20261126
SIDES = (384, 512)
"""Pixels of both sides of generated pictures, in turn."""

CHANGES = ("clean", "JPEG 80", "JPEG 50", "resize .5", "blur 3")
"""What happens to a picture before it is measured. `resize .5` halves both sides, `blur 3` is a Gaussian of 3 x 3
pixels; both are saved without loss, so that each does one thing."""

GENERATED, PHOTOGRAPHS = "generated", "photographs"


@dataclass(frozen=True, slots=True)
class SingleItem:
    """A picture file and the truth: `mask` [H,W] bool, all false on authentic ones; `data` is the set it belongs to,
    `edit` names what was done."""

    name: str
    data: str
    upload: bytes
    mask: Mask
    edit: str

    @property
    def forged(self) -> bool:
        """Whether anything in it is."""
        return bool(self.mask.any())


def real_items(folder: Path) -> Iterator[SingleItem]:
    """The forgeries of a set, then its originals as the authentic pictures; the files as they are."""
    found = cases(folder)
    for case in found:
        yield SingleItem(case.forged.stem, folder.name, case.forged.read_bytes(), read_mask(case.mask), "real")
    for path in sorted({case.original for case in found if case.original is not None}):
        yield _authentic(path, folder.name)


def generated_items(pool: PhotoPool, count: int, *, seed: int = SEED, twins: bool = True) -> Iterator[SingleItem]:
    """So many generated forgeries, each followed by its authentic twin; the same for the same seed and code.

    They are PNG files: what the last save as JPEG left is in the pixels, its quantisation tables are not told.
    """
    for place in range(count):
        for index in range(2 * place, 2 * place + (2 if twins else 1)):
            sample = samples.single(pool, seed, index, SIDES[place % len(SIDES)])
            name = f"{place:04d}-{sample.kind}"
            yield SingleItem(name, GENERATED, encode_png(sample.picture), sample.mask, sample.kind)


def photographs(photos: Iterable[Photo]) -> Iterator[SingleItem]:
    """Photographs as they are on disk."""
    for photo in photos:
        yield _authentic(photo.path, PHOTOGRAPHS)


def changed(upload: bytes, change: str) -> bytes:
    """The picture file after one of `CHANGES`. Raises Rejected where it cannot be opened."""
    if change == "clean":
        return upload
    picture = open_image(upload).rgb
    match change:
        case "JPEG 80":
            return jpeg_bytes(picture, 80)
        case "JPEG 50":
            return jpeg_bytes(picture, 50)
        case "resize .5":
            half = (max(16, picture.shape[1] // 2), max(16, picture.shape[0] // 2))
            return encode_png(np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8))
        case "blur 3":
            return encode_png(np.asarray(cv2.GaussianBlur(picture, (3, 3), 0), np.uint8))
        case _:
            raise ValueError(f"no such change: {change}; there are {', '.join(CHANGES)}")


def digest(items: Iterable[SingleItem]) -> str:
    """SHA-256 over files and masks: says whether a generated set is still the same one."""
    whole = hashlib.sha256()
    for item in items:
        for part in (item.upload, np.packbits(item.mask).tobytes()):
            whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _authentic(path: Path, data: str) -> SingleItem:
    upload = path.read_bytes()
    picture = open_image(upload)
    return SingleItem(path.stem, data, upload, np.zeros((picture.height, picture.width), bool), "authentic")
