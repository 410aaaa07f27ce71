"""Where an upload and an original show the same thing: local features and a robust homography.

In: grey pixels. Out: an `Alignment` that maps the original's pixels to the upload's, or None where the two do not share
enough. It exists so that lookup can prove a candidate and the pair path can compare like with like. Pure OpenCV and
NumPy, no learned parts; the same input gives the same output.

Features are RootSIFT (Arandjelovic and Zisserman, CVPR 2012) on a reduced picture, matched both ways with Lowe's ratio
test; the homography is MAGSAC++'s (Barath et al., CVPR 2020). Pixel coordinates everywhere are those of the full
pictures, with the centre of the top left pixel at (0, 0).
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from services.core.errors import Broken

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

WORKING_SIDE = 512
"""Pixels of the longer side that features are sought in. SIFT doubles it once more for its finest octave."""

MAX_FEATURES = 1000
"""Strongest features kept of a picture."""

MIN_INLIERS = 12
"""Fewer agreeing matches are taken for chance.

Of 9,400 pairs of different photographs none reached more than 8; all 60 forgeries of IMD2020 and CoMoFoD whose original
is known have 81 or more.
"""

_BIAS = 0.25  # pixels at the working size that OpenCV's SIFT puts a feature too far right and down; pairs do not notice
_RATIO = 0.85  # of squared RootSIFT distances: best to second best; about 0.92 of the distances themselves
_TOLERANCE = 3.0  # pixels at the working size that a match may miss the homography by
_MAX_SCALE = 16.0  # an original is never found enlarged or reduced by more than this
_MAX_STRETCH = 3.0  # nor stretched by more in one direction than in the other
_MAX_PERSPECTIVE = 4.0  # nor brought nearer at one corner than at another by more
_SNAP = 0.25  # pixels at the working size that a simpler map may lose in the matches' median error


@dataclass(frozen=True, slots=True)
class Features:
    """Local features of a picture.

    `points` is [N,2] float32 x, y in pixels of the full picture; `descriptors` is [N,128] float32, rows of length 1;
    `width` and `height` are the full picture's, `working_side` the longer side of what was looked at.
    """

    points: Floats
    descriptors: Floats
    width: int
    height: int
    working_side: int


@dataclass(frozen=True, slots=True)
class Alignment:
    """How an original lies in an upload.

    `homography` is [3,3] float64, original's pixels to upload's pixels; `inliers` counts the matches that agree with
    it; `overlap` is the share of the upload that the warped original covers; `spread` the share of the upload that the
    agreeing matches span (their convex hull): near `overlap` where the whole picture was reused, small for one object.
    """

    homography: Matrix
    inliers: int
    overlap: float
    spread: float


def extract(
    grey: Pixels,
    full_size: tuple[int, int] | None = None,
    *,
    side: int = WORKING_SIDE,
    most: int = MAX_FEATURES,
    contrast: float = 0.02,
) -> Features:
    """Features of `grey` [H,W] uint8, which is reduced to `side` first where it is larger.

    `full_size` is (width, height) of the full picture where `grey` is a reduced copy of it; `most` bounds the number of
    features, `contrast` is SIFT's threshold below which a feature is too faint.
    """
    height, width = grey.shape
    full_width, full_height = full_size or (width, height)
    working = reduced(grey, side)
    detector = cv2.SIFT.create(nfeatures=most, contrastThreshold=contrast)
    keypoints, found = detector.detectAndCompute(working, None)
    looked_at = max(working.shape)
    if found is None or not len(keypoints):
        nothing = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
        return Features(*nothing, full_width, full_height, looked_at)
    points = np.array([keypoint.pt for keypoint in keypoints], np.float32)
    scale = np.array([full_width / working.shape[1], full_height / working.shape[0]], np.float32)
    return Features((points + 0.5) * scale - 0.5, root_sift(found), full_width, full_height, looked_at)


def root_sift(descriptors: npt.NDArray[np.generic]) -> Floats:
    """SIFT descriptors [N,128] as OpenCV gives them, as RootSIFT: [N,128] float32, rows of length 1."""
    found = np.asarray(descriptors, np.float32)
    return np.asarray(np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-6)), np.float32)


def to_file(features: Features) -> bytes:
    """Features as a NumPy archive without pickled parts, some 70 kB; `from_file` reads it.

    Descriptors are kept to a byte a number. So that the same picture always gives the same answer, features of
    originals go through here even where nobody keeps them.
    """
    buffer = io.BytesIO()
    facts = np.array([features.width, features.height, features.working_side], np.int64)
    descriptors = np.round(features.descriptors * 255.0).astype(np.uint8)
    np.savez_compressed(buffer, facts=facts, points=features.points, descriptors=descriptors)
    return buffer.getvalue()


def from_file(data: bytes) -> Features:
    """The features in a file that `to_file` wrote. Raises Broken for anything else."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            width, height, side = (int(value) for value in file["facts"])
            points, whole = file["points"].astype(np.float32), file["descriptors"].astype(np.float32)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Broken(f"a file of {len(data)} bytes holds no local features: {error}") from error
    length = np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-6)
    return Features(points, whole / length, width, height, side)


def mirrored(features: Features) -> Features:
    """The features of the same picture flipped left to right, without looking at it again.

    A RootSIFT descriptor is a grid of 4 places across the feature's direction by 4 along it, each a histogram of 8
    directions relative to it: a flip turns the order across and the sense of directions round (Ma et al., "MIFT: A
    Mirror Reflection Invariant Feature Descriptor", ACCV 2009).
    """
    grids = features.descriptors.reshape(-1, 4, 4, 8)
    flipped = grids[:, ::-1, :, -np.arange(8) % 8].reshape(-1, 128)
    bias = 2 * _BIAS * max(features.width, features.height) / features.working_side
    points = features.points.copy()
    points[:, 0] = features.width - 1 + bias - points[:, 0]
    return replace(features, points=points, descriptors=np.ascontiguousarray(flipped))


def align(original: Features, upload: Features, *, min_inliers: int = MIN_INLIERS) -> Alignment | None:
    """The homography that takes the original to the upload, or None where fewer than `min_inliers` matches agree
    or the map is none that an editor's picture could have (mirrored, folded, enlarged or stretched beyond reason).
    """
    pairs = matches(original.descriptors, upload.descriptors)
    if len(pairs) < max(4, min_inliers):
        return None
    source, target = original.points[pairs[:, 0]], upload.points[pairs[:, 1]]
    tolerance = _TOLERANCE * max(upload.width, upload.height) / upload.working_side
    estimate, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, tolerance, maxIters=5000, confidence=0.9999)
    if estimate is None:
        return None
    found = np.asarray(estimate, np.float64)
    if not np.isfinite(found).all() or not _sane(found, original):
        return None
    agreeing = _agreeing(found, source, target, tolerance)
    if int(agreeing.sum()) < min_inliers:
        return None
    homography = _simplest(found, original, upload, source[agreeing], target[agreeing])
    return Alignment(
        homography=homography,
        inliers=int(agreeing.sum()),
        overlap=overlap(homography, (original.width, original.height), (upload.width, upload.height)),
        spread=_hull_area(target[agreeing]) / (upload.width * upload.height),
    )


def warp(original_rgb: Pixels, homography: Matrix, size: tuple[int, int]) -> Pixels:
    """The original [H,W,3] or [H,W] uint8 laid into the upload's frame of `size` (width, height), black outside.

    Where the map reduces the picture it is averaged down first, so that the comparison sees no aliasing.
    """
    height, width = original_rgb.shape[:2]
    shrink = _local_scale(homography, np.array([[width / 2, height / 2]]))
    source, mapping = original_rgb, homography
    if shrink < 0.75:
        smaller = max(1, round(width * shrink)), max(1, round(height * shrink))
        source = np.asarray(cv2.resize(original_rgb, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        mapping = homography @ resize_map(smaller, (width, height))
    if np.allclose(mapping / mapping[2, 2], np.eye(3), atol=1e-9) and (source.shape[1], source.shape[0]) == size:
        return source
    return np.asarray(cv2.warpPerspective(source, mapping, size, flags=cv2.INTER_LINEAR), np.uint8)


def coverage(original: Pixels, homography: Matrix, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Where the original [H,W,...] has pixels in the upload's frame of `size` (width, height), [height,width] bool."""
    return np.asarray(warp(np.full(original.shape[:2], 255, np.uint8), homography, size) >= 250)


def reduced(picture: Pixels, side: int) -> Pixels:
    """A picture [H,W] or [H,W,3] uint8 with its longer side at most `side` pixels, averaged down; never enlarged."""
    height, width = picture.shape[:2]
    ratio = side / max(height, width)
    if ratio >= 1.0:
        return picture
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def matches(first: Floats, second: Floats) -> npt.NDArray[np.intp]:
    """[M,2] indices of features that are each other's best match, the best clearly better than the second best."""
    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.intp)
    similarity = first @ second.T
    rows = np.arange(len(first))
    best = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[best] == rows
    top = similarity[rows, best]
    similarity[rows, best] = -1.0
    runner_up = similarity.max(axis=1)
    clear = (1.0 - top) < _RATIO * (1.0 - runner_up)
    keep = np.flatnonzero(mutual & clear)
    return np.stack([keep, best[keep]], axis=1)


def _corners(width: int, height: int) -> Matrix:
    """[4,2] outer corners of a picture, in order."""
    right, bottom = width - 0.5, height - 0.5
    return np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]], np.float64)


def mapped(homography: Matrix, points: npt.NDArray[np.floating]) -> Matrix:
    """[N,2] points after the homography."""
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:], np.float64)


def _agreeing(homography: Matrix, source: Floats, target: Floats, tolerance: float) -> npt.NDArray[np.bool_]:
    """[M] whether a match is within `tolerance` of where the homography puts it."""
    return np.asarray(np.linalg.norm(mapped(homography, source) - target, axis=1) < tolerance)


def _local_scale(homography: Matrix, at: Matrix) -> float:
    """How many upload pixels an original's pixel becomes, in length, at the point [1,2]."""
    step = mapped(homography, at + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    return float(np.sqrt(abs(np.linalg.det(step[1:] - step[0]))))


def _sane(homography: Matrix, original: Features) -> bool:
    """Whether the original's outline stays a convex quadrilateral, unmirrored and of a believable scale and shape."""
    corners = _corners(original.width, original.height)
    depth = np.column_stack([corners, np.ones(4)]) @ homography[2]
    if depth.min() <= 0.0 or depth.max() > _MAX_PERSPECTIVE * depth.min():
        return False
    quad = mapped(homography, corners)
    edges = np.roll(quad, -1, axis=0) - quad
    turns = edges[:, 0] * np.roll(edges, -1, axis=0)[:, 1] - edges[:, 1] * np.roll(edges, -1, axis=0)[:, 0]
    if turns.min() <= 0.0:
        return False
    stretch = np.linalg.norm(edges, axis=1) / np.array([original.width, original.height] * 2)
    return bool(
        stretch.max() < _MAX_SCALE and stretch.min() > 1 / _MAX_SCALE and stretch.max() < _MAX_STRETCH * stretch.min()
    )


def resize_map(source: tuple[int, int], target: tuple[int, int]) -> Matrix:
    """[3,3] map of pixel centres from a picture of `source` (width, height) to the same picture at `target`."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def _simplest(found: Matrix, original: Features, upload: Features, source: Floats, target: Floats) -> Matrix:
    """The plain resize, or the shift by whole pixels, where it explains the matches as well; else what was found.

    Most forgeries and copies keep the picture's frame or crop it. With the exact map unchanged pixels compare equal,
    which an estimate that is off by a third of a pixel spoils.
    """
    shift = np.round(np.median(target - source, axis=0)).astype(np.float64)
    resize = resize_map((original.width, original.height), (upload.width, upload.height))
    translation = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]], [0.0, 0.0, 1.0]])
    allowance = _SNAP * max(upload.width, upload.height) / upload.working_side
    error = np.median(np.linalg.norm(mapped(found, source) - target, axis=1))
    for simple in (resize, translation):
        if np.median(np.linalg.norm(mapped(simple, source) - target, axis=1)) < error + allowance:
            return simple
    return np.asarray(found / found[2, 2], np.float64)


def overlap(homography: Matrix, original: tuple[int, int], upload: tuple[int, int]) -> float:
    """Share of the upload's frame that the original's outline covers, 0..1; sizes are (width, height)."""
    quad = cv2.convexHull(mapped(homography, _corners(*original)).astype(np.float32))  # a mirrored one turns round
    frame = _corners(*upload).astype(np.float32)
    area, _ = cv2.intersectConvexConvex(quad, frame)
    return float(np.clip(area / (upload[0] * upload[1]), 0.0, 1.0))


def _hull_area(points: Floats) -> float:
    return float(cv2.contourArea(cv2.convexHull(points)))
