"""Pictures to measure with: as many as wanted, no two alike, from the few photographs of the samples.

In: photographs and a seed. Out: JPEG files. Each is a mosaic of four crops, turned and coloured by chance, so that no
fingerprint is near another's and nothing takes the short way of a duplicate or of a known original.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from services.core.pixels import open_image

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 1024, 683  # pixels: what the models look at without reducing it
QUALITY = (80, 96)
CUT = (0.3, 0.7)  # where the mosaic is divided, as a share of each side
CROP = (0.3, 0.8)  # share of the photograph's sides that a cell shows
GAIN = (0.7, 1.3)


def mosaics(photos: Sequence[Path], folder: Path, count: int, *, seed: int) -> list[Path]:
    """`count` JPEG files in `folder`, the same for the same photographs and seed."""
    sources = [open_image(photo.read_bytes()).rgb for photo in photos]
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        quality = int(chance.integers(*QUALITY))
        bgr = cv2.cvtColor(_mosaic(sources, chance), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        path = folder / f"{number:05d}.jpg"
        path.write_bytes(data.tobytes())
        made.append(path)
    return made


def _mosaic(sources: Sequence[Pixels], chance: np.random.Generator) -> Pixels:
    """[HEIGHT,WIDTH,3] uint8 RGB."""
    x, y = (int(side * chance.uniform(*CUT)) for side in (WIDTH, HEIGHT))
    canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for rows in (slice(0, y), slice(y, HEIGHT)):
        for columns in (slice(0, x), slice(x, WIDTH)):
            size = columns.stop - columns.start, rows.stop - rows.start
            canvas[rows, columns] = _cell(sources[int(chance.integers(len(sources)))], size, chance)
    return canvas


def _cell(photo: Pixels, size: tuple[int, int], chance: np.random.Generator) -> Pixels:
    """A crop of the photograph, turned and coloured, of `size` (width, height)."""
    height, width = (int(side * chance.uniform(*CROP)) for side in photo.shape[:2])
    top = int(chance.integers(photo.shape[0] - height))
    left = int(chance.integers(photo.shape[1] - width))
    crop = np.rot90(photo[top : top + height, left : left + width], int(chance.integers(4)))
    coloured = np.clip(crop * chance.uniform(*GAIN, size=3), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(coloured, size, interpolation=cv2.INTER_AREA), np.uint8)
