"""What anybody would try first: blurred |difference| and Otsu's threshold. It stands beside our figures in every table.

In: an upload and its original, [H,W,3] uint8 each. Out: a mask [H,W] bool of the upload.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from services.core import alignment
from services.core.placement import grey, resize_map

Pixels = npt.NDArray[np.uint8]
BLUR = 2.0  # pixels; takes the edge off recompression


def resized_difference(upload: Pixels, original: Pixels) -> npt.NDArray[np.bool_]:
    """The original resized to the upload, nothing aligned."""
    return _otsu(upload, alignment.warp(original, resize_map(original, upload), _size(upload)))


def aligned_difference(upload: Pixels, original: Pixels) -> npt.NDArray[np.bool_]:
    """The original laid onto the upload by SIFT and MAGSAC first; nothing is marked where that fails or outside it."""
    found = alignment.align(alignment.extract(grey(original)), alignment.extract(grey(upload)))
    if found is None:
        return np.zeros(upload.shape[:2], bool)
    laid = alignment.warp(original, found.homography, _size(upload))
    covered = alignment.coverage(original, found.homography, _size(upload))
    return _otsu(np.where(covered[..., None], upload, 0).astype(np.uint8), np.where(covered[..., None], laid, 0))


def _otsu(upload: Pixels, original: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    difference = np.abs(upload.astype(np.int16) - original.astype(np.int16)).mean(axis=2)
    blurred = np.clip(cv2.GaussianBlur(difference.astype(np.float32), (0, 0), BLUR), 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_OTSU)
    return np.asarray(blurred > level)


def _size(picture: Pixels) -> tuple[int, int]:
    return int(picture.shape[1]), int(picture.shape[0])
