"""Small photographs and forgeries made from them, as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from services.core.pixels import encode_png, open_image

SAMPLES = Path(__file__).parents[2] / "samples"
ORIGINALS = tuple(path.stem for path in sorted((SAMPLES / "originals").glob("*.jpg")))
SIDE = 320


def photo(place: int, side: int = SIDE) -> np.ndarray:
    """[H,W,3] uint8: a sample photograph, reduced."""
    return open_image((SAMPLES / "originals" / f"{ORIGINALS[place]}.jpg").read_bytes(), max_side=side).rgb


def forged(place: int, left: int = 80) -> np.ndarray:
    """The photograph with a patch of other colours from `left` on."""
    picture = photo(place).copy()
    picture[60:130, left : left + 90] = picture[60:130, left : left + 90, ::-1] // 2 + 90
    return picture


def png(rgb: np.ndarray) -> bytes:
    return encode_png(rgb)


def jpeg(rgb: np.ndarray, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
