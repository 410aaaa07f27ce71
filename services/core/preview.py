"""Pictures for people: small copies of uploads and coloured masks to lay over them.

In: the bytes of an image or of a mask's PNG. Out: a JPEG or PNG of ours, never the bytes that somebody uploaded, so
that nothing hidden in a file reaches a browser. Pure.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from services.core.pixels import MAX_PIXELS, Pixels, encode_png, open_image, read_mask_png

VERMILION = (226, 62, 36)
FILL = 0.55  # opacity where the mask is certain: the picture underneath stays readable
VISIBLE_FROM = 0.15  # below this probability a mask's haze would only dirty the picture
JPEG_QUALITY = 84


def preview(data: bytes, *, max_side: int, max_pixels: int = MAX_PIXELS, quality: int = JPEG_QUALITY) -> bytes:
    """A JPEG of the picture in `data`, upright, sRGB, its longer side at most `max_side` pixels. Raises Rejected."""
    picture = open_image(data, max_pixels=max_pixels, max_side=max_side)
    buffer = io.BytesIO()
    Image.fromarray(picture.rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def flagged(png: bytes, *, threshold: float, max_pixels: int = MAX_PIXELS) -> bytes:
    """A mask as its decision: an 8-bit grey PNG of the same size, 255 where the mask is at or above the threshold."""
    mask, _ = read_mask_png(png, max_pixels=max_pixels)
    return encode_png(np.where(mask >= threshold * 255, 255, 0).astype(np.uint8))


def overlay(png: bytes, *, max_side: int, threshold: float, fill: float = FILL, max_pixels: int = MAX_PIXELS) -> bytes:
    """A transparent PNG to lay over the upload: a soft mask's haze, and a line round what `threshold` (0..1) flags.

    `png` is the mask as the model server made it, 8-bit grey, 0..255 = probability. Raises Broken for anything else.
    """
    mask, _ = read_mask_png(png, max_pixels=max_pixels)
    return encode_png(tinted(_fitted(mask, max_side), threshold, fill), level=6)


def tinted(mask: Pixels, threshold: float, fill: float = FILL) -> Pixels:
    """A soft mask [H,W] uint8 as [H,W,4] uint8 RGBA: one colour, more opaque where it is more certain, outlined."""
    certainty = mask.astype(np.float32) / 255
    opacity = np.where(certainty >= VISIBLE_FROM, certainty * fill, 0)
    picture = np.empty((*mask.shape, 4), np.uint8)
    picture[..., :3] = VERMILION
    picture[..., 3] = np.rint(opacity * 255)
    flagged = (certainty >= threshold).astype(np.uint8)
    outlines, _ = cv2.findContours(flagged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(mask.shape) / 400))
    line = cv2.drawContours(np.zeros_like(flagged), outlines, -1, 255, width, cv2.LINE_8)
    picture[line > 0, 3] = 255
    return picture


def _fitted(mask: Pixels, max_side: int) -> Pixels:
    height, width = mask.shape
    if max(height, width) <= max_side:
        return mask
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
