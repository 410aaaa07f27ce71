"""Guard: which uploads are let in.

In: the bytes of an upload and the limits. Out: its picture, or `Rejected` with the reason. The cheap checks come first,
so that a hostile upload costs as little as possible; what only decoding can show is left to `pixels`.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.core.errors import Rejected
from services.core.pixels import MAX_PIXELS, Picture, open_image


@dataclass(frozen=True, slots=True)
class Limits:
    """What an upload may cost us: bytes of the file, and pixels once decoded."""

    max_bytes: int = 30_000_000
    max_pixels: int = MAX_PIXELS


def admit(data: bytes, limits: Limits, *, max_side: int | None = None) -> Picture:
    """The picture of an upload that may come in, its longer side reduced to `max_side` where that is given.

    Raises Rejected: too_large, or any code of `pixels.open_image`.
    """
    if len(data) > limits.max_bytes:
        raise Rejected("too_large", f"{len(data)} bytes are more than the limit of {limits.max_bytes}")
    return open_image(data, max_pixels=limits.max_pixels, max_side=max_side)
