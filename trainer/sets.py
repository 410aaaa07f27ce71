"""Sets of real forgeries on disk, and picture files made from them.

In: a folder with a `manifest.csv` (columns forged, mask, original; paths relative to it, original empty where it is not
known). Out: `Case`s, their masks, and JPEG bytes of pictures. These sets are measured on, never fitted or tuned on.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from services.core.errors import Broken

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Case:
    """A forgery of a set: files of the forged picture, its mask and, where known, its original."""

    forged: Path
    mask: Path
    original: Path | None


def cases(folder: Path) -> list[Case]:
    """The forgeries that a set's manifest lists."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Case(folder / r["forged"], folder / r["mask"], folder / r["original"] if r["original"] else None) for r in rows
    ]


def read_mask(path: Path) -> Mask:
    """The mask in a file, [H,W] bool: lighter than mid grey is forged. Raises Broken where it cannot be read."""
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise Broken(f"{path} is not a mask that OpenCV can read")
    return np.asarray(mask > 127)


def fitted(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """The mask at a picture's shape (height, width), by nearest neighbours."""
    if mask.shape == shape:
        return mask
    return np.asarray(cv2.resize(mask.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0)


def jpeg_bytes(picture: npt.NDArray[np.uint8], quality: int) -> bytes:
    """A picture [H,W,3] uint8 RGB as a JPEG file (4:2:0)."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()
