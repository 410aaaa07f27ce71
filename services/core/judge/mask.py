"""From a soft mask to what a verdict says about it: flagged area, regions, COCO RLE.

In: the 8-bit grey mask that a model answered. Out: numbers and values for `events.Mask`. Pure.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from services.core.events import CocoRle, Mask, Region

Grey = NDArray[np.uint8]
MOST_REGIONS = 20
LEAST_REGION_SHARE = 0.0002  # specks below this are counted in the area but get no box of their own


def to_full_resolution(grey: Grey, width: int, height: int) -> Grey:
    """A soft mask [h,w] uint8 (0..255 = probability) brought to [height,width], bilinear. Same size: as it is."""
    if grey.shape == (height, width):
        return grey
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def flagged(grey: Grey, threshold: float) -> Grey:
    """Pixels [H,W] uint8 0/1 whose probability is at or above `threshold` (0..1)."""
    return (grey >= max(1, math.ceil(threshold * 255))).astype(np.uint8)


def regions(binary: Grey) -> tuple[Region, ...]:
    """Bounding boxes of the 8-connected regions of a 0/1 mask [H,W], largest first, at most `MOST_REGIONS`."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    boxes = [
        Region(
            x=int(stats[i, cv2.CC_STAT_LEFT]),
            y=int(stats[i, cv2.CC_STAT_TOP]),
            width=int(stats[i, cv2.CC_STAT_WIDTH]),
            height=int(stats[i, cv2.CC_STAT_HEIGHT]),
            area=float(stats[i, cv2.CC_STAT_AREA]) / binary.size,
        )
        for i in range(1, count)
    ]
    boxes = [box for box in boxes if box.area >= LEAST_REGION_SHARE]
    return tuple(sorted(boxes, key=lambda box: (-box.area, box.y, box.x))[:MOST_REGIONS])


def to_rle(binary: Grey) -> CocoRle:
    """COCO's compressed RLE of a 0/1 mask [H,W]."""
    encoded = coco.encode(np.asfortranarray(binary))
    height, width = encoded["size"]
    return CocoRle(size=(int(height), int(width)), counts=encoded["counts"].decode("ascii"))


def from_rle(rle: CocoRle) -> Grey:
    """The 0/1 mask [H,W] uint8 of a COCO RLE."""
    return np.asarray(coco.decode({"size": list(rle.size), "counts": rle.counts.encode("ascii")}), dtype=np.uint8)


def describe(grey: Grey, *, threshold: float, qes: float, object_key: str) -> Mask:
    """What a verdict carries of a full-resolution soft mask [H,W] uint8."""
    binary = flagged(grey, threshold)
    return Mask(
        object_key=object_key,
        rle=to_rle(binary),
        area=float(binary.mean()),
        regions=regions(binary),
        qes=min(1.0, max(0.0, qes)),
    )
