"""Regions: the parts of a picture that are embedded one by one, so that one object of it can be found again alone.

In: a picture. Out: its crops in a fixed order. A vector of the whole picture finds what was edited; that of a part
finds the donor of an object, or the whole of which an upload is a part. Originals keep the first `STORED` vectors,
which is what an index of millions can hold; uploads are sought with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture in shares of its width and height, 0..1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Embedding:
    """A picture's vectors: `vectors` [R,D] float32 of length 1, one for each of the first R of `REGIONS`, and the
    `embedder` that made them, `<name>-<version>`. Vectors of different embedders are never compared."""

    embedder: str
    vectors: Vectors


def _grid(count: int, side: float) -> tuple[Box, ...]:
    """`count` x `count` boxes of `side` x `side`, row by row, that overlap and reach every border."""
    starts = [place * (1.0 - side) / (count - 1) for place in range(count)]
    return tuple(Box(left, top, left + side, top + side) for top in starts for left in starts)


WHOLE = Box(0.0, 0.0, 1.0, 1.0)
REGIONS = (WHOLE, *_grid(2, 0.6), *_grid(3, 0.4))
"""The whole, four quarters of 60 % of each side, nine parts of 40 %."""

STORED = 5
"""How many of them an original keeps: the whole and the quarters."""


def crop(rgb: Pixels, box: Box) -> Pixels:
    """The part of a picture [H,W,3] uint8, one pixel at least; a view."""
    height, width = rgb.shape[:2]
    top, left = min(height - 1, round(box.top * height)), min(width - 1, round(box.left * width))
    bottom, right = max(top + 1, round(box.bottom * height)), max(left + 1, round(box.right * width))
    return rgb[top:bottom, left:right]
