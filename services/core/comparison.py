"""Pictures that compare: the original laid onto the upload, and what is left when the one is taken from the other.

In: the bytes of both images and the verdict's homography. Out: JPEGs in the upload's frame, so that a pane of the one
lies pixel over pixel on a pane of the other, whatever was cropped, resized or turned. Where the original shows nothing
the picture is hatched: black would look like a difference. Pure.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from services.core import alignment
from services.core.alignment import Matrix
from services.core.pixels import MAX_PIXELS, Pixels, open_image

GAIN = 4
"""How much a difference is amplified: what re-encoding leaves stays dark, an edit that the eye misses does not."""

JPEG_QUALITY = 88
_HATCH = (118, 134)  # grey levels of the hatching
_HATCH_WIDTH = 6  # pixels of one line


@dataclass(frozen=True, slots=True)
class Laid:
    """An original in the upload's frame: `upload` and `original` are [H,W,3] uint8 RGB; `covered` [H,W] bool says where
    the original has pixels."""

    upload: Pixels
    original: Pixels
    covered: npt.NDArray[np.bool_]


def lay(
    upload: bytes, original: bytes, homography: Sequence[float] | None, *, max_side: int, max_pixels: int = MAX_PIXELS
) -> Laid:
    """The original laid onto the upload, whose longer side is at most `max_side` pixels afterwards.

    `homography` is row-major 3x3, original's pixels to upload's at their full upright sizes; None: the same frame, at
    most resized. Raises Rejected where one of the images cannot be opened.
    """
    below = open_image(upload, max_pixels=max_pixels, max_side=max_side)
    # Twice the side: of a crop only a part of the original is seen, and it should not be blurred.
    above = open_image(original, max_pixels=max_pixels, max_side=2 * max_side)
    full, theirs = (below.width, below.height), (above.width, above.height)
    size = below.rgb.shape[1], below.rgb.shape[0]
    known: Matrix = (
        alignment.resize_map(theirs, full) if homography is None else np.array(homography, np.float64).reshape(3, 3)
    )
    reduced = above.rgb.shape[1], above.rgb.shape[0]
    matrix = alignment.resize_map(full, size) @ known @ alignment.resize_map(reduced, theirs)
    return Laid(below.rgb, alignment.warp(above.rgb, matrix, size), alignment.coverage(above.rgb, matrix, size))


def aligned(laid: Laid) -> bytes:
    """A JPEG of the original in the upload's frame, hatched where it shows nothing."""
    return _jpeg(np.where(laid.covered[..., None], laid.original, _hatching(laid.covered.shape)))


def difference(laid: Laid) -> bytes:
    """A JPEG of how far each channel of the upload is from the original's, `GAIN`-fold, hatched where there is none."""
    distance = cv2.absdiff(laid.upload, laid.original).astype(np.uint16) * GAIN
    amplified = np.minimum(distance, 255).astype(np.uint8)
    return _jpeg(np.where(laid.covered[..., None], amplified, _hatching(laid.covered.shape)))


def _hatching(shape: tuple[int, ...]) -> Pixels:
    """[H,W,3] uint8 of diagonal lines in two greys."""
    rows, columns = np.indices(shape)
    lines = (rows + columns) // _HATCH_WIDTH % 2
    return np.repeat(np.where(lines, *_HATCH).astype(np.uint8)[..., None], 3, axis=2)


def _jpeg(rgb: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
