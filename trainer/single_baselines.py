"""Handcrafted traces of editing in one picture: what our figures of the single-image path are compared with.

In: a picture [H,W,3] uint8 RGB. Out: a soft map [H,W] float32 0..1 of how much each place differs in one property from
the picture as a whole, or a mask [H,W] bool of it. Written anew from the descriptions of the methods:

* Error level analysis: N. Krawetz, "A Picture's Worth", Black Hat USA 2007; here at several qualities.
* Noise level: B. Mahdian and S. Saic, "Using noise inconsistencies for blind image forensics", Image and Vision
  Computing 27(10), 2009.
* JPEG grid: in the spirit of T. Nikoukhah et al., "ZERO: a Local JPEG Grid Origin Detector Based on the Number of DCT
  Zeros and its Applications in Image Forensics", Image Processing On Line 11, 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from services.core.pixels import to_grey

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BLOCK = 8  # the side of a JPEG block in pixels
PHASES = BLOCK * BLOCK  # where a grid of such blocks can start
QUALITIES = (98, 95, 90, 85, 75, 65)  # of the saves that error levels are looked at after
ERROR_SPREAD = 8.0  # pixels; sigma that error levels are averaged with
TEXTURE_SHARE = 0.35  # power of the local texture that error levels are divided by
FINE = 1.5  # pixels; what is finer is texture
NOISE_WINDOW = 15  # coefficients; side of the window that the local median is taken over, 30 pixels
NOISE_LEVELS = 8.0  # steps a grey level: the median filter takes 8 bits
GRID_WINDOW = 5  # cells of 8 pixels; side of the window in which votes are counted
LEAST_EVIDENCE = 8.0  # nats that a picture must show for a grid of its own; e^8 / 64 is about 50 to 1
CHANCE = 1.0 / PHASES  # a vote for any one grid where there is none
ZERO = 0.5  # a DCT coefficient below it, in grey levels, counts as quantised away
MAD_TO_SIGMA = 0.6745  # median of |x| of a normal distribution with deviation 1
HALF_WAY = 3.0  # usual spreads that become 0.5 in a soft map


def error_levels(picture: Pixels) -> Floats:
    """How much more than usual each place changes when the picture is saved as JPEG again.

    Of each quality the logarithm of the smoothed change, less a part of the local texture's, is centred at its median
    and divided by its spread; the soft map is the mean over `QUALITIES`.
    """
    levels = picture.astype(np.float32)
    fine = np.abs(levels - cv2.GaussianBlur(levels, (0, 0), FINE)).mean(axis=2)
    texture = TEXTURE_SHARE * np.log(0.3 + cv2.GaussianBlur(fine, (0, 0), ERROR_SPREAD))
    total = np.zeros(picture.shape[:2], np.float32)
    for quality in QUALITIES:
        change = np.abs(levels - _saved(picture, quality)).mean(axis=2)
        total += _deviation(np.log(0.1 + cv2.GaussianBlur(change, (0, 0), ERROR_SPREAD)) - texture)
    return _soft(np.maximum(total / len(QUALITIES), 0.0))


def noise_levels(picture: Pixels) -> Floats:
    """How far the local noise is from what is usual in the picture, in either direction.

    Noise is the median absolute value of the diagonal details of a one-level Haar transform over a window, divided by
    0.6745 (Mahdian and Saic use a longer wavelet and merge blocks of equal noise; a window needs no merging).
    """
    grey = to_grey(picture).astype(np.float32)
    even = grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2]
    detail = np.abs(even[::2, ::2] - even[::2, 1::2] - even[1::2, ::2] + even[1::2, 1::2]) / 2.0
    levels = np.minimum(detail * NOISE_LEVELS, 255.0).astype(np.uint8)
    noise = cv2.medianBlur(levels, NOISE_WINDOW).astype(np.float32) / (NOISE_LEVELS * MAD_TO_SIGMA)
    return _enlarged(_soft(np.abs(_deviation(np.log(0.25 + noise)))), picture.shape)


def grid_votes(picture: Pixels) -> Floats:
    """The share of the votes for a JPEG grid, in a window, that go to another one than the picture's own; squared.

    Pixels vote (see `_votes`), the strongest grid over all is the picture's own. Where a window has few votes they
    count for little. 0 everywhere where the picture has no grid of its own, as after a resize: the method then has
    nothing to say.
    """
    votes = _votes(to_grey(picture).astype(np.float32))
    cast = votes >= 0
    tally = np.bincount(votes[cast], minlength=PHASES) / PHASES  # the 64 pixels of a block vote alike: one vote
    own = int(tally.argmax())
    if _evidence(float(tally[own]), float(tally.sum())) < LEAST_EVIDENCE:
        return np.zeros(picture.shape[:2], np.float32)
    everyone, loyal = _counted(cast), _counted(votes == own)
    return _enlarged((1.0 - loyal / np.maximum(everyone, 1.0)) ** 2 * (everyone > 0), picture.shape)


BASELINES: dict[str, Callable[[Pixels], Floats]] = {
    "error levels (ELA)": error_levels,
    "noise levels": noise_levels,
    "JPEG grid": grid_votes,
}
"""The soft map of each baseline."""


def otsu(level: Pixels) -> npt.NDArray[np.bool_]:
    """A soft map as levels [H,W] 0..255, cut by Otsu's threshold of its own; all false where it has one level only."""
    cut, _ = cv2.threshold(level, 0, 255, cv2.THRESH_OTSU)
    return np.asarray((level > cut) & (level.min() < level.max()))


def _saved(picture: Pixels, quality: int) -> Pixels:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)


def _deviation(values: Floats) -> Floats:
    """Values less their median, in units of their usual spread (median absolute deviation)."""
    centred = values - np.median(values)
    spread = float(np.median(np.abs(centred))) / MAD_TO_SIGMA
    return np.asarray(centred / max(spread, 0.05), np.float32)


def _soft(deviation: Floats) -> Floats:
    """A deviation >= 0 in usual spreads as 0..1."""
    return np.asarray(deviation / (deviation + HALF_WAY), np.float32)


def _enlarged(values: npt.NDArray[np.floating], shape: tuple[int, ...]) -> Floats:
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR), np.float32)


def _evidence(votes: float, cast: float) -> float:
    """Chernoff's bound for so many votes of `cast` independent ones where each has the chance 1/64: nats, >= 0."""
    share = min(max(votes / max(cast, 1e-6), CHANCE), 1.0 - 1e-6)
    return float(cast * (share * np.log(share / CHANCE) + (1 - share) * np.log((1 - share) / (1 - CHANCE))))


def _counted(votes: npt.NDArray[np.bool_]) -> Floats:
    """Votes [H,W] counted in windows of GRID_WINDOW x GRID_WINDOW cells, one row and column a cell; 64 pixels are one
    vote."""
    height, width = (-(-side // BLOCK) for side in votes.shape)
    padded = np.zeros((height * BLOCK, width * BLOCK), np.float32)
    padded[: votes.shape[0], : votes.shape[1]] = votes
    cells = padded.reshape(height, BLOCK, width, BLOCK).sum(axis=(1, 3)) / PHASES
    window = (GRID_WINDOW, GRID_WINDOW)
    return np.asarray(cv2.boxFilter(cells, -1, window, normalize=False, borderType=cv2.BORDER_CONSTANT), np.float32)


def _cosines() -> Floats:
    """The orthonormal DCT of eight values as a matrix, [8,8]."""
    rows, places = np.arange(BLOCK)[:, None], np.arange(BLOCK)
    basis = np.cos(np.pi * rows * (2 * places + 1) / (2 * BLOCK)) * np.sqrt(2.0 / BLOCK)
    basis[0] /= np.sqrt(2.0)
    return np.asarray(basis, np.float32)


_DCT = _cosines()


def _votes(grey: Floats) -> npt.NDArray[np.int64]:
    """The grid that each pixel votes for, [H,W]: 8 * row + column of its start, or -1 for none.

    A pixel lies in one block of each of the 64 grids and votes for the one whose block has the most DCT coefficients
    that are zero (below `ZERO`), which quantisation leaves; where two share the most, it votes for none.
    """
    height, width = grey.shape
    most, vote = np.zeros((height, width), np.float32), np.full((height, width), -1, np.int64)
    for top in range(BLOCK):
        rows = (height - top) // BLOCK
        if rows == 0:
            continue
        strips = grey[top : top + rows * BLOCK].reshape(rows, BLOCK, width)
        vertical = np.matmul(_DCT, strips)  # [rows, 8, W]
        for left in range(BLOCK):
            columns = (width - left) // BLOCK
            if columns == 0:
                continue
            blocks = vertical[:, :, left : left + columns * BLOCK].reshape(-1, BLOCK)
            small = (np.abs(blocks @ _DCT.T) < ZERO).reshape(rows, BLOCK, columns, BLOCK)
            zeros = small.sum(axis=(1, 3)).astype(np.float32)
            zeros = np.repeat(np.repeat(zeros, BLOCK, axis=0), BLOCK, axis=1)
            window = (slice(top, top + rows * BLOCK), slice(left, left + columns * BLOCK))
            here, place = most[window], vote[window]
            place[zeros == here] = -1
            better = zeros > here
            place[better] = top * BLOCK + left
            here[better] = zeros[better]
    return vote
