"""From nothing known to the original laid onto the upload, to a fraction of a pixel.

In: two pictures [H,W,3] uint8. Out: `Placement`s: how the original as a whole lies in the upload (`place`), or where
objects of it do (`place_objects`); None or nothing where the two do not share enough, which is an answer as well.
Coordinates are those of the pictures given, pixel centres, top left at (0, 0).

The coarse map comes from local features (`alignment`), also with the original mirrored, or without any features where
both pictures plainly have the same frame. It is then refined: corners of the upload are followed into the warped
original (pyramidal Lucas-Kanade; Bouguet 2001), back again as a check, and the map is corrected by what agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from services.core import alignment
from services.core.alignment import Features, Floats, Matrix, Pixels

MIN_OBJECT_INLIERS = 7
"""Fewer agreeing matches of an object are taken for chance."""

MOST_OBJECTS = 3


@dataclass(frozen=True, slots=True)
class Look:
    """How objects are sought: in pictures enlarged to `enlarged_to` or reduced to `side` pixels of the longer side, by
    so many `features` at most, of this `contrast`. A match may miss its map by `tolerance` pixels at that side; `least`
    matches must agree: the more features, the more agree by chance."""

    side: int
    enlarged_to: int
    features: int
    contrast: float
    tolerance: float
    least: int


LOOKS = (
    Look(side=800, enlarged_to=0, features=2500, contrast=0.004, tolerance=4.0, least=MIN_OBJECT_INLIERS),
    Look(side=1024, enlarged_to=640, features=3500, contrast=0.002, tolerance=3.0, least=9),
)
"""One after the other, until one finds something: small and smooth objects need the closer one, which takes longer."""

_FRAME_CELLS = 12  # the same frame is judged on a grid of cells
_FRAME_SIDE = 240
_FRAME_AGREES = 0.85  # correlation from which on a cell shows the same
_FRAME_SHARE = 0.55  # of the cells with detail that must show the same
_TRACKED = 700  # corners followed at most
_ROUND_TRIP = 0.4  # pixels that a corner followed there and back may be off
_FARTHEST = 8.0  # pixels that refinement may move a corner by
_AGREES = 0.8  # pixels that a followed corner may be off the refined map
_CONFIDENT = 0.5  # from which on the other way round is not tried
_EXACT = 0.12  # pixels of median error below which a map is left as it is
_LEAST_TRACKED = 16
_OBJECT_SCALES = (1 / 8, 8.0)
_COARSE_TOLERANCE = 0.03  # of the upload's longer side that an extra match may be off: a patch, 14 of 518 pixels


@dataclass(frozen=True, slots=True)
class Placement:
    """How an original, or an object of it, lies in an upload.

    `homography` is [3,3] float64, original's pixels to upload's pixels; `inliers` counts the matches or followed
    corners that agree with it; `overlap` is the share of the upload that the warped original covers, `spread` the share
    that the agreeing points span; `confidence` 0..1 is the share of the upload's corners under the original that the
    map explains to within a pixel (edited places and wrong maps explain none); `points` [N,2] float32 are the agreeing
    points in the upload; `mirrored` says that the original was flipped.
    """

    homography: Matrix
    inliers: int
    overlap: float
    spread: float
    confidence: float
    points: Floats
    mirrored: bool = False


def place(original: Pixels, upload: Pixels, hint: Matrix | None = None) -> Placement | None:
    """The original as a whole laid onto the upload, or None. `hint` is a map that is already known (`homography`)."""
    greys = grey(original), grey(upload)
    if hint is not None:
        return _placement(*greys, hint, inliers=None)
    if same_frame(*greys):
        plain = _placement(*greys, resize_map(original, upload), inliers=None)
        if plain.inliers >= alignment.MIN_INLIERS:
            return plain
    theirs = alignment.extract(greys[1])
    found = _sought(*greys, theirs, mirrored=False)
    if found is not None and found.confidence >= _CONFIDENT:
        return found
    other = _sought(*greys, theirs, mirrored=True)  # a symmetric picture half fits the wrong way round, too
    if found is None or other is None:
        return found or other
    return max(found, other, key=lambda each: each.confidence)


def _sought(original: Pixels, upload: Pixels, theirs: Features, *, mirrored: bool) -> Placement | None:
    """The original [H,W] grey, mirrored or not, laid onto the upload by local features, `theirs` being the upload's."""
    ours = np.ascontiguousarray(original[:, ::-1]) if mirrored else original
    coarse = alignment.align(alignment.extract(ours), theirs)
    if coarse is None:
        return None
    matrix = coarse.homography @ mirror(original.shape[1]) if mirrored else coarse.homography
    return _placement(original, upload, matrix, inliers=coarse.inliers)


def place_objects(
    original: Pixels, upload: Pixels, extra: tuple[Floats, Floats] | None = None
) -> tuple[Placement, ...]:
    """Objects of the original that lie in the upload, each under a map of its own, best supported first.

    Matches are denoised in three steps: each other's best and clearly better than the next (`alignment`), consistent
    with one similarity (RANSAC), and not explained by an object already found. `extra` are matches from elsewhere, as
    exact as a patch of the picture: points [N,2] float32 of the original and of the upload. They find what local
    features miss, but no mirrored objects; these objects come last.
    """
    greys = grey(original), grey(upload)
    found = next((objects for look in LOOKS if (objects := _looked_for(*greys, look))), [])
    if extra is not None:
        found += _coarse_objects(*greys, *_unexplained(*extra, found, _coarseness(greys[1])))
    return tuple(found[:MOST_OBJECTS])


def _looked_for(original: Pixels, upload: Pixels, look: Look) -> list[Placement]:
    """Objects that one look at two grey pictures finds, best supported first."""
    theirs = _object_features(upload, look)
    tolerance = look.tolerance * max(1.0, max(upload.shape) / look.side)
    found: list[Placement] = []
    for mirrored in (False, True):
        ours = _object_features(np.ascontiguousarray(original[:, ::-1]) if mirrored else original, look)
        for matrix, points in _similarities(*_matched(ours, theirs), tolerance):
            whole = matrix @ mirror(original.shape[1]) if mirrored else matrix
            if len(points) >= look.least:
                found.append(_object(original, upload, whole, points, mirrored))
    return sorted(found, key=lambda each: -each.inliers)


def grey(rgb: Pixels) -> Pixels:
    """[H,W,3] uint8 sRGB -> [H,W] uint8 luma."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def mirror(width: int) -> Matrix:
    """[3,3] map that flips a picture left to right."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def resize_map(original: Pixels, upload: Pixels) -> Matrix:
    """[3,3] map between the pixel centres of two pictures of the same frame, [H,W,...] each."""
    return alignment.resize_map((original.shape[1], original.shape[0]), (upload.shape[1], upload.shape[0]))


def same_frame(original: Pixels, upload: Pixels) -> bool:
    """Whether two grey pictures [H,W] plainly show the same, pixel over pixel, but for their size: no search needed."""
    ratio = (original.shape[1] / original.shape[0]) / (upload.shape[1] / upload.shape[0])
    if not 0.98 < ratio < 1.02:
        return False
    size = (_FRAME_SIDE, _FRAME_SIDE)
    first, second = (
        cv2.resize(side, size, interpolation=cv2.INTER_AREA).astype(np.float32) for side in (original, upload)
    )
    cell = _FRAME_SIDE // _FRAME_CELLS
    first, second = (
        side.reshape(_FRAME_CELLS, cell, _FRAME_CELLS, cell).swapaxes(1, 2).reshape(-1, cell * cell)
        for side in (first, second)
    )
    first, second = (side - side.mean(axis=1, keepdims=True) for side in (first, second))
    energy = np.sqrt((first**2).mean(1)), np.sqrt((second**2).mean(1))
    detailed = np.maximum(*energy) > 4.0
    if detailed.sum() < _FRAME_CELLS:
        return False
    correlation = (first * second).mean(1) / np.maximum(energy[0] * energy[1], 1e-6)
    return bool((correlation[detailed] > _FRAME_AGREES).mean() >= _FRAME_SHARE)


def _placement(original: Pixels, upload: Pixels, matrix: Matrix, *, inliers: int | None) -> Placement:
    """A map refined and described. Where no features spoke for it, the followed corners that agree are counted."""
    refined = _refined(original, upload, matrix, affine=False)
    size = upload.shape[1], upload.shape[0]
    return Placement(
        homography=refined.matrix,
        inliers=len(refined.points) if inliers is None else inliers,
        overlap=alignment.overlap(refined.matrix, (original.shape[1], original.shape[0]), size),
        spread=_spread(refined.points, upload),
        confidence=refined.confidence,
        points=refined.points,
        mirrored=bool(np.linalg.det(refined.matrix[:2, :2]) < 0),
    )


def _object(original: Pixels, upload: Pixels, matrix: Matrix, points: Floats, mirrored: bool) -> Placement:
    """An object's map refined on the neighbourhood of its matches, and described."""
    refined = _refined(original, upload, matrix, affine=True, inside=_about(points, upload))
    every = np.concatenate([points, refined.points]) if len(refined.points) else points
    return Placement(
        homography=refined.matrix,
        inliers=len(points),
        overlap=alignment.overlap(
            refined.matrix, (original.shape[1], original.shape[0]), (upload.shape[1], upload.shape[0])
        ),
        spread=_spread(every, upload),
        confidence=refined.confidence,
        points=every,
        mirrored=mirrored,
    )


def _coarse_objects(original: Pixels, upload: Pixels, source: Floats, target: Floats) -> list[Placement]:
    """Objects that only coarse matches [N,2] speak for.

    Such matches may as well be of two things of one kind (this giraffe, another one), which is no reuse. What counts
    are therefore the corners that can be followed under the coarse map: these are the object's matches.
    """
    coarseness = _coarseness(upload)
    found: list[Placement] = []
    for matrix, points in _similarities(source, target, coarseness):
        near = _about(points, upload)
        exact = _refined(original, upload, matrix, affine=True, inside=near, farthest=coarseness)
        if len(exact.points) >= MIN_OBJECT_INLIERS:
            found.append(_object(original, upload, exact.matrix, exact.points, mirrored=False))
    return sorted(found, key=lambda each: -each.inliers)


def _coarseness(upload: Pixels) -> float:
    """Pixels of the upload [H,W] that an extra match may be off."""
    return float(_COARSE_TOLERANCE * max(upload.shape))


def _unexplained(source: Floats, target: Floats, found: list[Placement], tolerance: float) -> tuple[Floats, Floats]:
    """Matches [N,2] less those that agree with an object already found, to within pixels of the upload."""
    for each in found:
        left = np.linalg.norm(alignment.mapped(each.homography, source) - target, axis=1) > tolerance
        source, target = source[left], target[left]
    return source, target


def _about(points: Floats, upload: Pixels) -> Pixels:
    """Where an object with matches [N,2] may be: [H,W] uint8, 255 in their hull and a little beyond, 0 elsewhere."""
    near = np.zeros(upload.shape, np.uint8)
    hull = cv2.convexHull(points).astype(np.int32)
    cv2.fillPoly(near, [hull], (255,))
    reach = max(9, int(0.15 * np.sqrt(max(1.0, cv2.contourArea(hull))))) | 1
    return np.asarray(cv2.dilate(near, np.ones((reach, reach), np.uint8)), np.uint8)


@dataclass(frozen=True, slots=True)
class _Refined:
    matrix: Matrix
    points: Floats
    confidence: float


def _refined(
    original: Pixels,
    upload: Pixels,
    matrix: Matrix,
    *,
    affine: bool,
    inside: Pixels | None = None,
    farthest: float = _FARTHEST,
) -> _Refined:
    """The map corrected by corners of the upload that are found again in the warped original, within `farthest` pixels
    of where it has them."""
    size = upload.shape[1], upload.shape[0]
    nothing = _Refined(matrix, np.zeros((0, 2), np.float32), 0.0)
    covered = alignment.warp(np.full(original.shape, 255, np.uint8), matrix, size) > 250
    if inside is not None:
        covered &= inside > 0
    eroded = cv2.erode(covered.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0)
    ours, theirs = _flattened(alignment.warp(original, matrix, size)), _flattened(upload)
    corners = cv2.goodFeaturesToTrack(theirs, _TRACKED, 0.01, max(4, max(size) // 120), mask=eroded)
    if corners is None or len(corners) < _LEAST_TRACKED:
        return nothing
    corners = np.asarray(corners, np.float32).reshape(-1, 2)
    followed, good = _followed(theirs, ours, corners, farthest)
    if good.sum() < _LEAST_TRACKED:
        return nothing
    source, target = followed[good], corners[good]
    correction = np.eye(3)
    before = np.linalg.norm(source - target, axis=1)
    if np.median(before) > _EXACT:
        found = _correction(source, target, affine)
        if found is not None:
            correction = found
    after = np.linalg.norm(alignment.mapped(correction, source) - target, axis=1)
    agreeing = after < _AGREES
    if agreeing.sum() < (before < _AGREES).sum():
        correction, agreeing = np.eye(3), before < _AGREES
    improved = correction @ matrix
    return _Refined(improved / improved[2, 2], target[agreeing], float(agreeing.sum() / len(corners)))


def _correction(source: Floats, target: Floats, affine: bool) -> Matrix | None:
    """[3,3] map from where corners are in the warped original to where they are in the upload."""
    if affine:
        found, _ = cv2.estimateAffine2D(source, target, ransacReprojThreshold=_AGREES, maxIters=2000, confidence=0.999)
        return None if found is None else np.vstack([found, [0.0, 0.0, 1.0]])
    found, _ = cv2.findHomography(source, target, cv2.USAC_MAGSAC, _AGREES, maxIters=2000, confidence=0.999)
    return None if found is None or not np.isfinite(found).all() else np.asarray(found, np.float64)


def _followed(first: Pixels, second: Pixels, corners: Floats, farthest: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Where corners [N,2] of one picture are in the other, and which were found there and back."""
    there, found = _flow(first, second, corners)
    back, returned = _flow(second, first, there)
    good = found & returned
    good &= np.linalg.norm(back - corners, axis=1) < _ROUND_TRIP
    good &= np.linalg.norm(there - corners, axis=1) < farthest
    return there, np.asarray(good)


def _flow(first: Pixels, second: Pixels, corners: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    start = corners.copy()  # OpenCV's stubs want a place to write to
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, start, winSize=(15, 15), maxLevel=2)
    return np.asarray(there, np.float32), np.asarray(found.ravel() > 0)


def _flattened(picture: Pixels) -> Pixels:
    """Grey [H,W] with local brightness and contrast taken out, so that colour changes do not lead corners astray."""
    levels = picture.astype(np.float32)
    mean = cv2.blur(levels, (31, 31))
    spread = np.sqrt(np.maximum(cv2.blur(levels * levels, (31, 31)) - mean * mean, 0.0)) + 6.0
    return np.asarray(np.clip(127.5 + 48.0 * (levels - mean) / spread, 0, 255), np.uint8)


def _object_features(picture: Pixels, look: Look) -> Features:
    """Local features of a grey picture [H,W], which is enlarged first where it is smaller than the look wants it."""
    height, width = picture.shape
    factor = look.enlarged_to / max(height, width)
    seen = picture
    if factor > 1.0:
        size = round(width * factor), round(height * factor)
        seen = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    return alignment.extract(seen, (width, height), side=look.side, most=look.features, contrast=look.contrast)


def _matched(original: Features, upload: Features) -> tuple[Floats, Floats]:
    """Points [N,2] of the original and of the upload whose features match."""
    pairs = alignment.matches(original.descriptors, upload.descriptors)
    return original.points[pairs[:, 0]], upload.points[pairs[:, 1]]


def _similarities(source: Floats, target: Floats, tolerance: float) -> list[tuple[Matrix, Floats]]:
    """Maps [3,3] of objects with the agreeing points [N,2] in the upload, one after the other until matches run out.

    `tolerance` is how many pixels of the upload a match may miss its object's map by.
    """
    found: list[tuple[Matrix, Floats]] = []
    for _ in range(MOST_OBJECTS):
        if len(source) < MIN_OBJECT_INLIERS:
            break
        matrix, agreeing = cv2.estimateAffinePartial2D(
            source, target, ransacReprojThreshold=tolerance, maxIters=5000, confidence=0.999
        )
        if matrix is None:
            break
        inside = agreeing.ravel() > 0
        points = _distinct(target[inside])
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if len(points) < MIN_OBJECT_INLIERS:
            break
        if _OBJECT_SCALES[0] < scale < _OBJECT_SCALES[1] and len(_distinct(source[inside])) >= MIN_OBJECT_INLIERS:
            found.append((np.vstack([matrix, [0.0, 0.0, 1.0]]), points))
        source, target = source[~inside], target[~inside]
    return found


def _distinct(points: Floats) -> Floats:
    """Points [N,2] without those on the same pixel: several features of one corner are one witness."""
    _, first = np.unique(np.round(points), axis=0, return_index=True)
    return points[np.sort(first)]


def _spread(points: Floats, upload: Pixels) -> float:
    if len(points) < 3:
        return 0.0
    return float(cv2.contourArea(cv2.convexHull(points.astype(np.float32)))) / upload.size
