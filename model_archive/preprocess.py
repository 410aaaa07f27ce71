"""Pixels to network inputs: the one preparation that fitting and serving share.

In: [H,W,3] uint8 RGB pictures. Out: float32 arrays [C,H,W] 0..1 that the networks take, padded right and below to the
networks' granule. Pure numpy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Size = tuple[int, int]

CHANNELS = {"difference": 9, "web_iml": 3}
"""Channels of each network's input."""

SAMPLED_PIXELS = 6_000  # enough to fit two numbers per channel; keeps large pictures fast
TRIM_ROUNDS = 3
TRIM_KEEP = 0.7  # share of the pixels that is taken for unedited when colours are matched
GAIN_LIMITS = (0.5, 2.0)


def rgb_input(rgb: Pixels) -> Floats:
    """[H,W,3] uint8 RGB -> [3,H,W] float32 0..1."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0)


def pair_input(upload: Pixels, original: Pixels, valid: npt.NDArray[np.bool_]) -> Floats:
    """The nine channels [upload, original, |upload - original|], [9,H,W] float32 0..1.

    `original` is already in the upload's frame. Its colours are matched to the upload's; where it has no pixels
    (`valid` [H,W] is false) the upload stands in for it, so that nothing differs there.
    """
    matched = photometric(original, upload, valid)
    matched = np.where(valid[..., None], matched, upload.astype(np.float32))
    ours, theirs = rgb_input(upload), np.ascontiguousarray(matched.transpose(2, 0, 1)) / np.float32(255.0)
    return np.concatenate([ours, theirs, np.abs(ours - theirs)], axis=0)


def photometric(original: Pixels, upload: Pixels, valid: npt.NDArray[np.bool_]) -> Floats:
    """`original` with a gain and an offset per channel that bring it closest to `upload`, [H,W,3] float32 0..255.

    Least squares, repeated on the 70 % of pixels that fit best, so that an edited region does not pull the colours.
    """
    step = max(1, int(np.ceil(np.sqrt(valid.size / SAMPLED_PIXELS))))
    inside = valid[::step, ::step]
    source = np.ascontiguousarray(original[::step, ::step][inside].T, dtype=np.float64)
    goal = np.ascontiguousarray(upload[::step, ::step][inside].T, dtype=np.float64)
    result = original.astype(np.float32)
    if source.shape[1] < 64:
        return result
    keep = np.ones(source.shape[1], bool)
    gain, offset = np.ones((3, 1)), np.zeros((3, 1))
    for _ in range(TRIM_ROUNDS):
        gain, offset = _fitted(source[:, keep], goal[:, keep])
        error = np.abs(source * gain + offset - goal).max(axis=0)
        keep = error <= np.quantile(error, TRIM_KEEP)
    result *= gain[:, 0].astype(np.float32)
    result += offset[:, 0].astype(np.float32)
    return np.clip(result, 0.0, 255.0, out=result)


def working_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """(width, height) at which a picture is analysed: its own, or smaller where a side exceeds `max_side`."""
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def padded(x: Floats, granule: int) -> Floats:
    """[C,H,W] padded right and below, by repeating the border, to multiples of `granule`."""
    height, width = x.shape[1:]
    return np.pad(x, ((0, 0), (0, -height % granule), (0, -width % granule)), mode="edge")


def rescaled(homography: Matrix, *, original: tuple[Size, Size], upload: tuple[Size, Size]) -> Matrix:
    """A homography between full pictures as one between resized ones; each pair is (full size, size now).

    Sizes are (width, height). Coordinates are those of `services.core.alignment`: pixel centres, top left at (0, 0).
    """
    return np.asarray(_resize(*upload) @ homography @ _resize(original[1], original[0]), np.float64)


def _fitted(source: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset [3,1] of channels [3,N] by least squares; the gain stays within limits, 1 on flat pictures."""
    mean, target = source.mean(1, keepdims=True), goal.mean(1, keepdims=True)
    spread = ((source - mean) ** 2).mean(1, keepdims=True)
    slope = ((source - mean) * (goal - target)).mean(1, keepdims=True) / np.maximum(spread, 1e-6)
    gain = np.where(spread > 4.0, np.clip(slope, *GAIN_LIMITS), 1.0)
    return gain, target - gain * mean


def _resize(source: Size, target: Size) -> Matrix:
    """[3,3] map of pixel centres from a picture of `source` size to the same picture at `target`."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])
