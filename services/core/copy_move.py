"""A picture compared with itself: parts of it that were copied to another place of it (copy-move, cloning).

In: RGB pixels. Out: `Copy`, one for each part that is found twice so exactly that chance, or things that merely look
alike, do not explain it. It is the one kind of forgery whose original lies within the upload, so the near-exact way of
comparing works although nobody registered anything. Pure OpenCV and NumPy, no learned parts; the same input gives the
same output.

Features are `alignment`'s RootSIFT, matched among themselves by the ratio test that leaves out the neighbourhood (g2NN;
Amerini et al., IEEE TIFS 6(3), 2011), grouped into similarities by RANSAC, and each group is then checked pixel by
pixel: by correlation of small windows, and by that of the finest detail, which a copy shares down to its noise and a
second window of the same house does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from services.core import alignment
from services.core.placement import grey

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

WORKING_SIDE = 800
"""Pixels of the longer side at which a picture is compared with itself."""

FEATURES = 3000
_CONTRAST = 0.008  # SIFT's threshold: copies often are of lawn, sand or sky
_NEAREST = 0.025  # of the longer side: what lies closer together is one place, not two
_RATIO = 0.72  # of squared distances: best to the best that lies elsewhere
_FARTHEST = 0.25  # squared distance of two RootSIFT descriptors; copies stay far below
_TOLERANCE = 2.5  # pixels a match may miss the map of its group by
_GROUPS = 4
_LEAST_GROUP = 5  # matches that agree, for their places to be looked at
_SCALES = (0.4, 2.5)
_WINDOW = 9  # pixels of the windows that are correlated
_TEXTURED = 2.0  # grey levels of spread in a window; below, correlation means nothing
_SAME = 0.8  # correlation of a window that belongs to a copy
_SAME_LEVEL = 4.0  # grey levels that two windows without texture may differ by
_FLAT_REACH = 17  # pixels: a place without texture belongs to a copy where texture that does is that near
_LEAST_AREA = 0.0004  # of the picture

TOLD_APART = 2 / 3
"""Chance from which on one of the two places alone is taken for the copy."""

_CUES = np.array([-0.32, 4.3, 0.51])
"""Weights of the differences between the second place and the first in: fine detail along the outline (logarithm),
jump of fine detail across it (logarithm), jump of colour across it (in 20 grey levels). A logistic regression on 135
generated copies: `python -m trainer.copies --photographs 400 --copies 300 --fit` on the photographs that the networks
are fitted on prints it."""

LEAST_INLIERS = 6
LEAST_CORRELATION = 0.965
LEAST_DETAIL = 0.45
LEAST_STRENGTH = 1.0
"""What counts as a copy: at least so many matches, so high a correlation and so much fine detail in common, and of the
last two together (`Copy.strength`) clearly more than the least. The least was chosen by eye; with it alone 5 of 400
authentic photographs of the fitting pool had a copy (print, a telephone's keys, two of a thing), all of a strength
below 0.93, as are 7 of 47 generated copies."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A part of a picture that is there twice.

    `first` and `second` [H,W] bool are the two places, `matrix` [3,3] float64 takes the first's pixels to the second's.
    `second_chance` 0..1 is the chance that the second is the copy and the first its source.
    `inliers` counts matches that agree, `correlation` (-1..1) is the median over windows of 9 x 9 pixels, `detail`
    (-1..1) that of what a blur of 1.2 pixels takes away.
    """

    first: Mask
    second: Mask
    matrix: Matrix
    inliers: int
    correlation: float
    detail: float
    second_chance: float = 0.5

    @property
    def forged(self) -> Mask:
        """The copy [H,W] bool, or both places where nothing tells which of them it is."""
        if self.second_chance >= TOLD_APART:
            return self.second
        return self.first if self.second_chance <= 1.0 - TOLD_APART else np.asarray(self.first | self.second)

    @property
    def certain(self) -> bool:
        """Whether it is taken for a copy, and not for two things that look alike."""
        enough = self.inliers >= LEAST_INLIERS and self.correlation >= LEAST_CORRELATION and self.detail >= LEAST_DETAIL
        return enough and self.strength >= LEAST_STRENGTH

    @property
    def strength(self) -> float:
        """How exactly the two places agree: 0 for the least of correlation and detail, 2 for the same pixels."""
        correlation = (self.correlation - LEAST_CORRELATION) / (1.0 - LEAST_CORRELATION)
        return correlation + (self.detail - LEAST_DETAIL) / (1.0 - LEAST_DETAIL)


def copies(rgb: Pixels) -> list[Copy]:
    """The parts of a picture [H,W,3] uint8 that are there twice, by falling number of matches; masks of its size."""
    return [found for found in look_alikes(rgb) if found.certain]


def look_alikes(rgb: Pixels) -> list[Copy]:
    """All pairs of places that agree in some windows, certain copies or not."""
    height, width = rgb.shape[:2]
    small = alignment.reduced(rgb, WORKING_SIDE)
    view = _view(grey(small))
    found = [_checked(view, matrix, points, inliers) for matrix, points, inliers in _groups(view.levels)]
    kept = [each for each in found if each is not None]
    told = [replace(each, second_chance=_second_chance(small, each)) if each.certain else each for each in kept]
    return [_at_full_size(each, width, height) for each in told]


@dataclass(frozen=True, slots=True)
class _View:
    """A grey picture [H,W] at which all its groups are checked: `levels` uint8, `fine` float32 a little softened,
    `detail` float32 what a blur of 1.2 pixels takes away."""

    levels: Pixels
    fine: Floats
    detail: Floats


def _view(levels: Pixels) -> _View:
    fine = np.asarray(cv2.GaussianBlur(levels, (0, 0), 0.8), np.float32)
    return _View(levels, fine, levels.astype(np.float32) - cv2.GaussianBlur(levels, (0, 0), 1.2).astype(np.float32))


def _groups(seen: Pixels) -> Iterator[tuple[Matrix, Floats, int]]:
    """Maps [2,3] that several self-matches agree on, with where they lead [N,2] and how many distinct ones agree."""
    features = alignment.extract(seen, side=WORKING_SIDE, most=FEATURES, contrast=_CONTRAST)
    apart = _apart(seen)
    pairs = _self_matches(features.descriptors, features.points, apart)
    source, target = features.points[pairs[:, 0]], features.points[pairs[:, 1]]
    for _ in range(_GROUPS):
        if len(source) < _LEAST_GROUP:
            return
        found, agreeing = cv2.estimateAffinePartial2D(
            source, target, ransacReprojThreshold=_TOLERANCE, maxIters=2000, confidence=0.99
        )
        if found is None or agreeing.sum() < _LEAST_GROUP:
            return
        matrix, inside = np.asarray(found, np.float64), agreeing.ravel() > 0
        start, end = source[inside], target[inside]
        count = min(len(np.unique(np.round(points), axis=0)) for points in (start, end))
        scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        if _SCALES[0] < scale < _SCALES[1] and count >= _LEAST_GROUP:
            yield matrix, end, count
        returning = np.linalg.norm(target @ matrix[:, :2].T + matrix[:, 2] - source, axis=1) < 2 * _TOLERANCE
        rest = ~(inside | returning)  # each match is there in both directions
        source, target = source[rest], target[rest]


def _self_matches(descriptors: Floats, points: Floats, apart: float) -> npt.NDArray[np.intp]:
    """[M,2] indices of features that match one at least `apart` pixels away, and that one far better than others."""
    if len(descriptors) < LEAST_INLIERS:
        return np.zeros((0, 2), np.intp)
    found = []
    for start in range(0, len(descriptors), 1024):
        rows = slice(start, start + 1024)
        likeness = descriptors[rows] @ descriptors.T
        likeness[_near(points[rows], points, apart)] = -1.0
        best = likeness.argmax(axis=1)
        distance = 2.0 - 2.0 * likeness[np.arange(len(best)), best]
        likeness[_near(points[best], points, apart / 2)] = -1.0  # the best one's own neighbourhood is no rival
        rival = 2.0 - 2.0 * likeness.max(axis=1)
        good = np.flatnonzero((distance < _RATIO * rival) & (distance < _FARTHEST))
        found.append(np.stack([good + start, best[good]], axis=1))
    return np.concatenate(found)


def _near(some: Floats, points: Floats, apart: float) -> Mask:
    """[M,N] which of `points` [N,2] lie within `apart` pixels of each of `some` [M,2]."""
    squares = (some**2).sum(1)[:, None] + (points**2).sum(1)[None] - 2.0 * (some @ points.T)
    return np.asarray(squares < apart**2)


def _checked(view: _View, matrix: Matrix, points: Floats, inliers: int) -> Copy | None:
    """Where the picture agrees with itself under a map [2,3], around where the matches lie; None where nowhere."""
    fine, detail = view.fine, view.detail
    size = fine.shape[1], fine.shape[0]
    laid = np.asarray(cv2.warpAffine(fine, matrix, size, flags=cv2.INTER_LINEAR), np.float32)
    inside = (cv2.warpAffine(np.ones_like(fine), matrix, size) > 0.99) & _moved(matrix, view.levels)
    correlation, spread, level = _windows(fine, laid)
    textured = spread > _TEXTURED
    alike = inside & textured & (correlation > _SAME)
    level_alike = inside & ~textured & (np.abs(level) + 0.5 * np.abs(fine - laid) < _SAME_LEVEL)
    second = _around(_solid(alike | (level_alike & _grown(_solid(alike), _FLAT_REACH))), points)
    shown = second & textured
    if shown.sum() < _WINDOW**2:
        return None
    ours, theirs = detail[shown], cv2.warpAffine(detail, matrix, size, flags=cv2.INTER_CUBIC)[shown]
    strength = float(np.sqrt((ours**2).sum() * (theirs**2).sum())) + 1e-6
    back = cv2.invertAffineTransform(matrix)
    first = cv2.warpAffine(second.astype(np.uint8), back, size, flags=cv2.INTER_NEAREST) > 0
    return Copy(
        first=np.asarray(first),
        second=second,
        matrix=np.vstack([matrix, [0.0, 0.0, 1.0]]),
        inliers=inliers,
        correlation=float(np.median(correlation[shown])),
        detail=float((ours * theirs).sum()) / strength,
    )


def _second_chance(rgb: Pixels, copy: Copy) -> float:
    """The chance that the second of two places is the copy: what was pasted seldom fits its surroundings as well."""
    odds = float((place_cues(rgb, copy.second) - place_cues(rgb, copy.first)) @ _CUES)
    return 1.0 / (1.0 + math.exp(-float(np.clip(odds, -30.0, 30.0))))


def place_cues(rgb: Pixels, place: Mask) -> Matrix:
    """How a place [H,W] bool stands out from what is around it, [3] float64; see `_CUES`. Higher is odder."""
    levels = grey(rgb).astype(np.float32)
    detail = np.abs(cv2.Laplacian(levels, cv2.CV_32F))
    solid = place.astype(np.uint8)
    outline = _grown(solid, 9) & ~_shrunk(solid, 9)
    inner, outer = place & ~_shrunk(solid, 13), _grown(solid, 13) & ~place
    if min(outline.sum(), inner.sum(), outer.sum()) < _WINDOW:
        return np.zeros(3)
    sharp = float(np.log(detail[outline].mean() + 1.0))
    jump = abs(float(np.log((detail[inner].mean() + 0.01) / (detail[outer].mean() + 0.01))))
    colours = float(np.abs(rgb[inner].mean(0) - rgb[outer].mean(0)).mean()) / 20.0
    return np.array([sharp, jump, colours])


def _grown(mask: Pixels, side: int) -> Mask:
    return np.asarray(cv2.dilate(mask, np.ones((side, side), np.uint8)) > 0)


def _shrunk(mask: Pixels, side: int) -> Mask:
    return np.asarray(cv2.erode(mask, np.ones((side, side), np.uint8)) > 0)


def _moved(matrix: Matrix, seen: Pixels) -> Mask:
    """Places [H,W] whose counterpart under a map lies far enough away to be another place."""
    back = cv2.invertAffineTransform(matrix)
    y, x = np.mgrid[0 : seen.shape[0], 0 : seen.shape[1]].astype(np.float32)
    right = back[0, 0] * x + back[0, 1] * y + back[0, 2] - x
    down = back[1, 0] * x + back[1, 1] * y + back[1, 2] - y
    return np.asarray(right**2 + down**2 > _apart(seen) ** 2)


def _windows(ours: Floats, theirs: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the window about each place, [H,W] float32 each: correlation, the smaller spread, difference of the means."""

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (_WINDOW, _WINDOW)), np.float32)

    first, second = mean(ours), mean(theirs)
    spreads = [np.maximum(mean(side * side) - level**2, 0.0) for side, level in ((ours, first), (theirs, second))]
    common = mean(ours * theirs) - first * second
    correlation = common / np.sqrt(spreads[0] * spreads[1] + 4.0)  # 4: a spread that 8 bits do not tell from none
    return np.asarray(correlation, np.float32), np.asarray(np.sqrt(np.minimum(*spreads)), np.float32), first - second


def _solid(mask: Mask) -> Pixels:
    """A mask without specks and pinholes, [H,W] uint8 0 or 1."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)), np.uint8)


def _around(mask: Pixels, points: Floats) -> Mask:
    """The connected parts of a mask that hold three or more of the points [N,2], [H,W] bool."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    x, y = np.round(points).astype(int).T
    within = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    held = np.bincount(parts[y[within], x[within]], minlength=count)
    good = (held >= 3) & (stats[:, cv2.CC_STAT_AREA] >= _LEAST_AREA * mask.size)
    good[0] = False
    return np.asarray(good[parts])


def _apart(seen: Pixels) -> float:
    return float(max(16.0, _NEAREST * max(seen.shape)))


def _at_full_size(copy: Copy, width: int, height: int) -> Copy:
    """The same copy in a picture of another size."""
    if copy.first.shape == (height, width):
        return copy
    first, second = (
        cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR) > 0
        for mask in (copy.first, copy.second)
    )
    small = copy.first.shape[1], copy.first.shape[0]
    up, down = alignment.resize_map(small, (width, height)), alignment.resize_map((width, height), small)
    matrix = up @ copy.matrix @ down
    return replace(copy, first=np.asarray(first), second=np.asarray(second), matrix=matrix)
