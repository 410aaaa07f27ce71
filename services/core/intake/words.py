"""Visual words: local features of a picture as numbers that an index can look up, with where each of them lies.

In: a grey picture and a vocabulary. Out: its `VisualWords`. Two pictures that show the same thing share words, and the
places of what they share agree on one turn, scale and shift. So a picture is found again by a fraction of it: a small
crop, what an edit left over, or one object in another picture.

A word is the cell of a product quantiser (Jegou et al., "Product Quantization for Nearest Neighbor Search", PAMI 2011)
that a RootSIFT descriptor falls into after PCA; how votes agree follows "Hamming Embedding and Weak Geometric
Consistency" (Jegou et al., ECCV 2008), then every match is tried as the transform of all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from services.core.alignment import root_sift
from services.core.pixels import MAX_PIXELS, open_image, to_grey

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

SIDE: Final = 800
"""Pixels of the longer side that words are sought in: objects that are pasted small have few features at 512."""

STORED: Final = 1000  # words that an original keeps
SOUGHT: Final = 1000  # features of an upload that are sought
GRID: Final = 6
"""Fields of either side among which features are dealt: the strongest of a picture crowd where it is busiest, and an
object that is pasted elsewhere later may lie where it is not."""
DETECTED: Final = 3  # times as many features are sought as are dealt
CONTRAST: Final = 0.01  # SIFT's threshold: fainter than for verification, as agreement weeds out what is chance
CELLS: Final = 2  # words that each of those is sought as: beside the cell that it lies in, the next nearest one

STEPS: Final = 256  # of each number of a place
OCTAVES: Final = 10.0  # a feature's size is 2**-10 to 1 of the longer side

TURNS, SCALES = 12, 11  # buckets of the coarse look: of 30 degrees, and of an octave
MANY: Final = 50_000  # shared words from which on pictures that share little are left out first
LIKELY: Final = 2000  # pictures, about, that are left then
BUCKETS: Final = 2**21  # that pictures are counted in for that
LOOKED_AT: Final = 100  # pictures that are looked at closely
MOST_MATCHES: Final = 400  # of one picture that are looked at closely
TRIED: Final = 12  # transforms of one picture that are counted out
NEAR, RELATIVE = 6.0 / SIDE, 0.2  # how far a match may lie from its place: of the longer side, and of the way there
TURN_OFF, OCTAVES_OFF = 0.5, 0.8  # how far from each other turns (radians) and scales (octaves) of two matches may be


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """A product quantiser of descriptors: `mean` [128] and `axes` [128,2*D] project them; `first` and `second` [K,D]
    are the cells of the two halves. Words of vocabularies of different names are never compared."""

    name: str
    mean: Floats
    axes: Floats
    first: Floats
    second: Floats

    @property
    def size(self) -> int:
        """How many words there are; they are numbered from 0."""
        return len(self.first) * len(self.second)

    def words(self, descriptors: Floats, cells: int) -> Integers:
        """[N,cells] the words whose cells are nearest to each of the descriptors [N,128], nearest first."""
        projected = np.asarray((descriptors - self.mean) @ self.axes, np.float32)
        half = self.first.shape[1]
        near, beside = _nearest(projected[:, :half], self.first), _nearest(projected[:, half:], self.second)
        both = (near.far[:, :, None] + beside.far[:, None, :]).reshape(len(descriptors), -1)
        names = (near.cell[:, :, None] * len(self.second) + beside.cell[:, None, :]).reshape(len(descriptors), -1)
        order = np.argsort(both, axis=1, kind="stable")[:, :cells]
        return np.take_along_axis(names, order, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class VisualWords:
    """A picture's local features, dealt so that the first of them are from all over it: `words` [N,C] int64, nearest
    first, and `places` [N] int64, packed: x and y, angle and size, a byte each."""

    vocabulary: str
    words: Integers
    places: Integers


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Words that registered pictures share with an upload: picture `numbers` [M], the upload's `features` [M] (from 0),
    packed `places` [M] in the registered pictures, and the `weights` [M] of the words, 0..1, rare ones more."""

    numbers: Integers
    features: Integers
    places: Integers
    weights: Doubles


def words_of(data: bytes, vocabulary: Vocabulary, *, most: int = SOUGHT, max_pixels: int = MAX_PIXELS) -> VisualWords:
    """The words of an image file. Raises Rejected where it cannot be opened. About 0.2 s on one core."""
    picture = open_image(data, max_pixels=max_pixels, max_side=SIDE)
    return look(to_grey(picture.rgb), vocabulary, most=most)


def look(grey: Pixels, vocabulary: Vocabulary, *, most: int = SOUGHT, cells: int = CELLS) -> VisualWords:
    """The words of a picture [H,W] uint8, whose longer side should be `SIDE` at most."""
    sift = cv2.SIFT.create(nfeatures=DETECTED * most, contrastThreshold=CONTRAST)
    keypoints, found = sift.detectAndCompute(grey, None)
    if found is None or not len(keypoints):
        return VisualWords(vocabulary.name, np.zeros((0, cells), np.int64), np.zeros(0, np.int64))
    longer = max(grey.shape)
    points = np.array([keypoint.pt for keypoint in keypoints]) / longer
    angles, sizes, strengths = (
        np.array([getattr(keypoint, name) for keypoint in keypoints]) for name in ("angle", "size", "response")
    )
    order = dealt(points, strengths)[:most]
    return VisualWords(
        vocabulary.name,
        vocabulary.words(root_sift(found[order]), cells),
        packed(points[order], angles[order], sizes[order] / longer),
    )


def dealt(points: Doubles, strengths: Doubles) -> Integers:
    """[N] an order of features: the strongest of each of `GRID` x `GRID` fields, then the second of each, and so on.

    `points` [N,2] in shares of the longer side. In a turn the stronger one comes first.
    """
    field = np.clip(np.floor(points * GRID), 0, GRID - 1).astype(np.int64) @ np.array([GRID, 1])
    by_field = np.lexsort((-strengths, field))
    _, starts, counts = np.unique(field[by_field], return_index=True, return_counts=True)
    turn = np.empty(len(points), np.int64)
    turn[by_field] = np.arange(len(points)) - np.repeat(starts, counts)
    return np.lexsort((-strengths, turn)).astype(np.int64)


def packed(points: Doubles, angles: Doubles, sizes: Doubles) -> Integers:
    """[N] places: `points` [N,2] and `sizes` [N] in shares of the longer side, `angles` [N] in degrees."""
    octaves = np.log2(np.maximum(sizes, 2.0**-OCTAVES)) / OCTAVES + 1.0
    columns = (points[:, 0], points[:, 1], (angles % 360.0) / 360.0, octaves)
    bytes_of = [np.clip(np.floor(column * STEPS), 0, STEPS - 1).astype(np.int64) for column in columns]
    return bytes_of[0] << 24 | bytes_of[1] << 16 | bytes_of[2] << 8 | bytes_of[3]


def agreed(upload: VisualWords, shared: Shared, *, most: int) -> list[tuple[int, float]]:
    """At most `most` pictures (their numbers) with the weight of the words whose places agree, heaviest first.

    Two words that agree are the least: one alone agrees with itself.
    """
    if not len(shared.numbers):
        return []
    if len(shared.numbers) > MANY:
        shared = _likely(shared)
    numbers, which = np.unique(shared.numbers, return_inverse=True)
    theirs, ours = _Places.of(shared.places), _Places.of(upload.places[shared.features])
    likely = np.argsort(-_coarse(which, len(numbers), shared, ours, theirs), kind="stable")[:LOOKED_AT]
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(numbers) + 1))
    votes = []
    for picture in likely:
        rows = order[starts[picture] : starts[picture + 1]]
        if len(rows) > MOST_MATCHES:
            rows = rows[np.argsort(-shared.weights[rows], kind="stable")[:MOST_MATCHES]]
        weight = _consistent(ours.at(rows), theirs.at(rows), shared.features[rows], shared.weights[rows])
        if weight > 0.0:
            votes.append((int(numbers[picture]), weight))
    return sorted(votes, key=lambda vote: (-vote[1], vote[0]))[:most]


def _likely(shared: Shared) -> Shared:
    """What the pictures share whose words weigh most, wherever they lie; who is in a bucket with one of them stays."""
    bucket = shared.numbers & (BUCKETS - 1)
    weights = np.bincount(bucket, shared.weights, BUCKETS)
    there = weights[weights > 0.0]  # of so many zeros the least of the largest takes long to find
    if len(there) <= LIKELY:
        return shared
    least = np.partition(there, -LIKELY)[-LIKELY]
    rows = np.flatnonzero((weights >= least)[bucket])
    return Shared(shared.numbers[rows], shared.features[rows], shared.places[rows], shared.weights[rows])


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The two nearest cells of each row, [N,2], and their squared distances up to a constant of the row."""

    cell: Integers
    far: Floats


def _nearest(rows: Floats, cells: Floats) -> _Cells:
    far = (cells * cells).sum(axis=1) - 2.0 * rows @ cells.T
    near = np.argpartition(far, 1, axis=1)[:, :2]
    return _Cells(near.astype(np.int64), np.take_along_axis(far, near, axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Places unpacked, [M] each: x and y in shares of the longer side, the angle in radians, the size's logarithm."""

    x: Doubles
    y: Doubles
    angle: Doubles
    octave: Doubles

    @classmethod
    def of(cls, places: Integers) -> _Places:
        x, y, angle, octave = ((places >> shift & (STEPS - 1)) + 0.5 for shift in (24, 16, 8, 0))
        return cls(x / STEPS, y / STEPS, angle * np.float64(2 * np.pi / STEPS), octave * np.float64(OCTAVES / STEPS))

    def at(self, rows: Integers) -> _Places:
        return _Places(self.x[rows], self.y[rows], self.angle[rows], self.octave[rows])


def _coarse(which: Integers, pictures: int, shared: Shared, ours: _Places, theirs: _Places) -> Doubles:
    """[pictures] the heaviest bucket of turn and scale of each picture. Four grids, each off by half a step."""
    turn = (ours.angle - theirs.angle) / (2 * np.pi) * TURNS
    scale = ours.octave - theirs.octave + SCALES / 2
    best = np.zeros(pictures)
    for turn_off in (0.0, 0.5):
        for scale_off in (0.0, 0.5):
            turns = np.floor(turn + turn_off).astype(np.int64) % TURNS
            scales = np.clip(np.floor(scale + scale_off), 0, SCALES - 1).astype(np.int64)
            bucket = (which * TURNS + turns) * SCALES + scales
            _, once = np.unique(bucket * SOUGHT + shared.features, return_index=True)
            sums = np.bincount(bucket[once], shared.weights[once], pictures * TURNS * SCALES)
            best = np.maximum(best, sums.reshape(pictures, -1).max(axis=1))
    return best


def _consistent(ours: _Places, theirs: _Places, features: Integers, weights: Doubles) -> float:
    """The weight of the largest set of matches that one turn, scale and shift explains; 0 where no two agree.

    Each match, of a feature with its direction and size, is such a transform by itself. A feature counts once, and so
    does a place.
    """
    turn, scale = ours.angle - theirs.angle, ours.octave - theirs.octave
    across, along = np.exp2(scale) * np.cos(turn), np.exp2(scale) * np.sin(turn)
    dx, dy = theirs.x[None] - theirs.x[:, None], theirs.y[None] - theirs.y[:, None]
    there_x, there_y = ours.x[None] - ours.x[:, None], ours.y[None] - ours.y[:, None]
    miss_x = across[:, None] * dx - along[:, None] * dy - there_x
    miss_y = along[:, None] * dx + across[:, None] * dy - there_y
    turned = np.abs((turn[None] - turn[:, None] + np.pi) % (2 * np.pi) - np.pi)
    agree = (
        (np.hypot(miss_x, miss_y) < NEAR + RELATIVE * np.hypot(there_x, there_y))
        & (turned < TURN_OFF)
        & (np.abs(scale[None] - scale[:, None]) < OCTAVES_OFF)
    )
    best = 0.0
    place = np.round(theirs.x * STEPS).astype(np.int64) * STEPS + np.round(theirs.y * STEPS).astype(np.int64)
    for match in np.argsort(-(agree * weights).sum(axis=1), kind="stable")[:TRIED]:
        rows = np.flatnonzero(agree[match])
        once = rows[np.unique(features[rows], return_index=True)[1]]
        count = min(len(once), len(np.unique(place[rows])))
        if count >= 2:
            best = max(best, float(np.sort(weights[once])[::-1][:count].sum()))
    return best
