"""Pixels to network inputs: the one preparation that fitting and serving share.

In: [H,W,3] uint8 RGB pictures. Out: float32 arrays [C,H,W] 0..1 that the networks take, padded right and below to the
networks' granule. No learned parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from services.core.alignment import resize_map
from services.core.intake import regions

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Size = tuple[int, int]

CHANNELS = {"correlation": 10, "difference": 9, "embedder": 3, "pair_kind": 10, "web_iml": 4}
"""Channels of each network's input."""

KIND_SIDE = 128
"""Pixels of both sides at which the kind of a pair is judged."""

REGION_SIDE = 128
"""Pixels of both sides at which a region is embedded, whatever shape it has in the picture."""

REGIONS_FROM = (
    320  # pixels of the shorter side that regions are cut from: the smallest, 40 % of it, is then enlarged never
)

SAMPLED_PIXELS = 6_000  # enough to fit ten numbers per channel; keeps large pictures fast
LEAST_SAMPLES = 64  # with fewer, colours are left as they are
TRIM_ROUNDS = 3
TRIM_KEEP = 0.6  # share of the samples that is taken for unedited at the start
GAIN_LIMITS = (0.4, 2.5)
SCALES = (0.25, 0.12, 0.06, 0.04, 0.04)  # of 0..1: errors beyond these lose their weight, round after round
RIDGE = np.diag([1e-6, *(2e-5,) * 3, *(2e-4,) * 6])  # pull of each coefficient towards no change


def rgb_input(rgb: Pixels) -> Floats:
    """[H,W,3] uint8 RGB -> [3,H,W] float32 0..1."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32) / np.float32(255.0)


def single_input(rgb: Pixels, steps: Sequence[int] | None = None) -> Floats:
    """The four channels of the single-image network: RGB and how coarsely JPEG quantised it, [4,H,W] float32 0..1.

    `steps` are the 64 quantisation steps of luma, row by row (vertical frequency first), where the upload was a JPEG
    whose 8x8 grid starts at the picture's top left corner. The fourth channel repeats them over the picture, divided
    by 255 (1 at most); it is 0 everywhere where there are none. A crop keeps them, if it starts at multiples of 8.
    """
    height, width = rgb.shape[:2]
    quantised = np.zeros((1, height, width), np.float32)
    if steps is not None:
        tile = np.minimum(np.asarray(steps, np.float32).reshape(8, 8) / np.float32(255.0), np.float32(1.0))
        quantised[0] = np.tile(tile, (-(-height // 8), -(-width // 8)))[:height, :width]
    return np.concatenate([rgb_input(rgb), quantised], axis=0)


def pair_input(
    upload: Pixels, original: Pixels, valid: npt.NDArray[np.bool_], common: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """The nine channels [upload, original, |upload - original|], [9,H,W] float32 0..1.

    `original` is already in the upload's frame. Its colours are matched to the upload's, by the places `common` [H,W]
    that the two are believed to share (by default all); where it has no pixels (`valid` [H,W] is false) the upload
    stands in for it, so that nothing differs there.
    """
    matched = photometric(original, upload, valid if common is None else valid & common)
    matched = np.where(valid[..., None], matched, upload.astype(np.float32))
    ours, theirs = rgb_input(upload), np.ascontiguousarray(matched.transpose(2, 0, 1)) / np.float32(255.0)
    return np.concatenate([ours, theirs, np.abs(ours - theirs)], axis=0)


def object_input(upload: Pixels, original: Pixels, valid: npt.NDArray[np.bool_], points: Floats) -> Floats:
    """Ten channels: the nine of `pair_input` and where matches were found, [10,H,W] float32 0..1.

    `points` [N,2] are the matches' places in the upload, x and y. Colours are matched on what they span, since nothing
    else need be common to the two pictures.
    """
    x = pair_input(upload, original, valid, spanned(points, upload.shape[:2]))
    return np.concatenate([x, witnesses(points, upload.shape[:2])[None]], axis=0)


def spanned(points: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """The convex hull of points [N,2] with a little around it, [H,W] bool."""
    canvas = np.zeros(shape, np.uint8)
    if len(points) >= 3:
        cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(points).astype(np.int32)), (1,))
    reach = max(3, int(0.02 * max(shape))) | 1
    return np.asarray(cv2.dilate(canvas, np.ones((reach, reach), np.uint8)) > 0)


def witnesses(points: Floats, shape: tuple[int, ...]) -> Floats:
    """How densely points [N,2] lie about each place, [H,W] float32 0..1: a blur of 3 % of the longer side, the densest
    place being 1."""
    height, width = shape[:2]
    cell = max(1, max(height, width) // 128)  # blurred small and enlarged: the same, and fast on large pictures
    canvas = np.zeros((height // cell + 1, width // cell + 1), np.float32)
    places = np.round(points / cell).astype(int)
    inside = ((places >= 0) & (places < (canvas.shape[1], canvas.shape[0]))).all(axis=1)
    np.add.at(canvas, (places[inside, 1], places[inside, 0]), 1.0)
    blurred = cv2.GaussianBlur(canvas, (0, 0), max(1.0, 0.03 * max(height, width) / cell))
    share = np.asarray(blurred, np.float32) / np.float32(max(1e-6, float(blurred.max())))
    return np.asarray(cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def kind_input(x: Floats) -> Floats:
    """`object_input` [10,H,W] reduced to [10,KIND_SIDE,KIND_SIDE] float32, whatever its shape was."""
    size = (KIND_SIDE, KIND_SIDE)
    small = [cv2.resize(channel, size, interpolation=cv2.INTER_AREA) for channel in x]
    return np.stack(small).astype(np.float32)


def region_inputs(rgb: Pixels, side: int = REGION_SIDE) -> Floats:
    """What of a picture [H,W,3] uint8 is embedded: [R,3,side,side] float32 0..1, in the order of
    `regions.REGIONS`. A large picture is reduced first, which hardly changes the regions and saves most of the time."""
    scale = REGIONS_FROM / min(rgb.shape[:2])
    if scale < 1.0:
        height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
        rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.stack([region_input(regions.crop(rgb, box), side) for box in regions.REGIONS])


def region_input(part: Pixels, side: int = REGION_SIDE) -> Floats:
    """A region [h,w,3] uint8, at least a pixel large, as [3,side,side] float32 0..1: its shape is not kept."""
    return rgb_input(np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA), np.uint8))


def photometric(original: Pixels, upload: Pixels, weight: npt.NDArray[np.bool_] | Floats) -> Floats:
    """`original` with its colours brought closest to those of `upload`, [H,W,3] float32 0..255.

    Each channel becomes a quadratic polynomial of all three, which follows gain, offset, gamma, contrast, saturation,
    tint and greyscale. `weight` [H,W] says where the two may be compared: bool, or float32 0..1. The fit is robust
    (iteratively reweighted least squares with Geman-McClure's weights), so that an edited region does not pull the
    colours, and drawn to the identity where the picture says little, so that rare colours are not led astray.
    """
    step = max(1, int(np.ceil(np.sqrt(weight.size / SAMPLED_PIXELS))))
    importance = weight[::step, ::step].astype(np.float64)
    inside = importance > 0
    if int(inside.sum()) < LEAST_SAMPLES:
        return original.astype(np.float32)
    source, goal = (_smooth(side)[::step, ::step][inside] / np.float32(255.0) for side in (original, upload))
    curve = _robust_curve(source.astype(np.float64), goal.astype(np.float64), importance[inside])
    return _applied(original, curve)


def _smooth(picture: Pixels) -> Pixels:
    """Noise and small misplacements averaged away, so that they do not look like colour."""
    return np.asarray(cv2.blur(picture, (5, 5)), np.uint8)


def _robust_curve(source: np.ndarray, goal: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """[10,3] coefficients of the change of colour, from samples [N,3] 0..1; the better one of two starts."""
    terms = _terms(source)
    starts = [np.zeros((terms.shape[1], 3)), _trimmed_start(source, goal)]
    found = [_reweighted(terms, goal - source, importance, start) for start in starts]
    return min(found, key=lambda each: each[1])[0]


def _reweighted(
    terms: np.ndarray, change: np.ndarray, importance: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Coefficients [10,3] and their robust cost, by reweighted ridge regression from a start."""
    curve = start
    for scale in SCALES:
        error = np.linalg.norm(terms @ curve - change, axis=1)
        trust = importance / (1.0 + (error / scale) ** 2) ** 2
        trust /= trust.sum() + 1e-12
        curve = np.linalg.solve((terms * trust[:, None]).T @ terms + RIDGE, (terms * trust[:, None]).T @ change)
    error = np.linalg.norm(terms @ curve - change, axis=1) / SCALES[-1]
    return curve, float((importance * error**2 / (1.0 + error**2)).sum())


def _trimmed_start(source: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """A gain and an offset per channel that fit the best 60 % of the samples, as coefficients [10,3]."""
    keep = np.ones(len(source), bool)
    gain, offset = np.ones(3), np.zeros(3)
    for _ in range(TRIM_ROUNDS):
        mean, target = source[keep].mean(0), goal[keep].mean(0)
        spread = ((source[keep] - mean) ** 2).mean(0)
        slope = ((source[keep] - mean) * (goal[keep] - target)).mean(0) / np.maximum(spread, 1e-9)
        gain = np.where(spread > 1e-4, np.clip(slope, *GAIN_LIMITS), 1.0)
        offset = target - gain * mean
        error = np.abs(source * gain + offset - goal).max(axis=1)
        keep = error <= np.quantile(error, TRIM_KEEP)
    curve = np.zeros((10, 3))
    curve[0] = offset
    curve[[1, 2, 3], [0, 1, 2]] = gain - 1.0
    return curve


def _terms(colours: np.ndarray) -> np.ndarray:
    """[N,3] colours -> [N,10]: 1, r, g, b, their squares and products."""
    r, g, b = colours.T
    return np.stack([np.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], axis=1)


def _applied(picture: Pixels, curve: np.ndarray) -> Floats:
    """The picture after a change of colour, [H,W,3] float32 0..255."""
    flat = picture.reshape(-1, 3).astype(np.float32) / np.float32(255.0)
    small = curve.astype(np.float32)
    linear = flat @ small[1:4] + small[0]
    r, g, b = flat.T
    squares = np.stack([r * r, g * g, b * b, r * g, r * b, g * b], axis=1)
    changed = (flat + linear + squares @ small[4:]).reshape(picture.shape) * np.float32(255.0)
    return np.asarray(np.clip(changed, 0.0, 255.0, out=changed), np.float32)


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
    return np.asarray(resize_map(*upload) @ homography @ resize_map(original[1], original[0]), np.float64)
