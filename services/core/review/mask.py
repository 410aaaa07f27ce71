"""A mask that a moderator drew: checked and written anew. Pure.

In: bytes that claim to be a PNG, and the upload's size. Out: an 8-bit grey PNG of exactly that size, and the share of
the picture that it marks. Nothing of the sent file but its pixels is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import Broken
from services.core.judge.mask import flagged
from services.core.pixels import encode_png, read_mask_png

MASK_BYTES = 20_000_000  # of a PNG, as it was sent and as it is kept: `learn` reads no more


class Unfit(Exception):
    """Bytes that are no mask of this upload. The text says why, for the person who drew it."""


@dataclass(frozen=True, slots=True)
class DrawnMask:
    """`png` is 8-bit grey, 0 = untouched, 255 = manipulated; `area` 0..1 is the share that it marks."""

    png: bytes
    area: float


def drawn_mask(data: bytes, *, width: int, height: int, threshold: float) -> DrawnMask:
    """The mask in the bytes. Raises Unfit for anything but an 8-bit grey PNG of that size which marks something."""
    try:
        grey, _ = read_mask_png(data, max_pixels=width * height)
    except Broken as error:
        text = f"The mask must be an 8-bit grey PNG of {width} x {height} pixels."
        raise Unfit(text) from error
    if grey.shape != (height, width):
        raise Unfit(f"The mask has {grey.shape[1]} x {grey.shape[0]} pixels, the upload {width} x {height}.")
    area = float(flagged(grey, threshold).mean())
    if area == 0.0:
        raise Unfit("The mask marks nothing.")
    png = encode_png(grey)
    if len(png) > MASK_BYTES:
        raise Unfit(f"The mask takes {len(png)} bytes, at most {MASK_BYTES} are kept: draw it simpler.")
    return DrawnMask(png, area)
