"""From scenes to what a network is fitted on: single pictures with their authentic twins, and pairs.

In: a pool of photographs, a seed and an index. Out: `SingleSample` or `PairSample`, the same for the same numbers on
any run. Half of the single pictures are authentic twins: the unedited host after the very same save.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis import disturbances, edits
from trainer.synthesis.blending import Edit
from trainer.synthesis.photos import PhotoPool, Scene

GRID = 8  # the side of a JPEG block
AUTHENTIC_PAIRS = 0.22
OUTLINED_DONORS = 0.5  # how often the donor is asked to be a photograph with outlined things
REDUCED_SHARE = 0.3  # how often a single picture was edited large and reduced for the web
REDUCTION = (1.1, 1.7)  # by these factors
EXACT_PAIRS = 0.1  # how often the two differ by the edit alone, as after a save without loss
SECOND_EDITS = 0.25  # how often a pair holds two edits
LARGE_SPLICES = 0.1  # how often a single picture holds a large part of another one
MORE_EDITS = (0.2, 0.08)  # how often a single picture holds a second one, and then a third
MOST_EDITED = 0.6  # share of the picture; beyond it there is nothing left to tell the original by
WHOLE_SHARE = 0.4  # of a part of the mask that must have changed visibly for all of it to count
VISIBLE_LEVELS = 7  # a pixel that changed by less, in grey levels, cannot be told from recompression


@dataclass(frozen=True, slots=True)
class SingleSample:
    """`picture` [S,S,3] uint8 sRGB; `mask` [S,S] bool, all false on an authentic twin; `kind` of the edit; `steps` are
    the 64 quantisation steps of luma, row by row, where the file is a JPEG."""

    picture: np.ndarray
    mask: np.ndarray
    kind: str
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class PairSample:
    """An upload and its original, aligned up to a small error: [S,S,3] uint8 each; `mask` [S,S] bool in the upload's
    frame; `valid` [S,S] bool where the original covers the upload."""

    forged: np.ndarray
    original: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    kind: str


def single(pool: PhotoPool, seed: int, index: int, size: int) -> SingleSample:
    """Sample `index` of the stream `seed`. Even indices are forgeries, the odd one after each is its twin."""
    rng = np.random.default_rng((seed, 1, index // 2))
    edited = size
    if rng.random() < REDUCED_SHARE:
        edited = round(size * float(rng.uniform(*REDUCTION)))
    host = camera_scene(pool, rng, edited)
    donor = camera_scene(pool, rng, edited, labelled=rng.random() < OUTLINED_DONORS)
    edit = _forged_often(rng, host, donor)
    how = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC][int(rng.integers(3))]
    file = disturbances.file(rng)
    picture = host.picture if index % 2 else edit.picture
    mask = np.zeros((edited, edited), bool) if index % 2 else edit.mask
    if edited != size:
        picture = cv2.resize(picture, (size, size), interpolation=how)
        mask = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) > 0.5
    picture, steps = file.save(np.asarray(picture, np.uint8))
    return SingleSample(picture, np.asarray(mask, bool), "authentic" if index % 2 else edit.kind, steps)


def pair(pool: PhotoPool, seed: int, index: int, size: int) -> PairSample:
    """Sample `index` of the stream `seed`: each side disturbed on its own, except where an editor saved without loss;
    about a fifth is not forged at all."""
    rng = np.random.default_rng((seed, 2, index))
    host, donor = camera_scene(pool, rng, size), camera_scene(pool, rng, size, labelled=rng.random() < OUTLINED_DONORS)
    if rng.random() < AUTHENTIC_PAIRS:
        edit = Edit("authentic", host.picture, np.zeros((size, size), bool))
    else:
        edit = _forged(rng, host, donor)
    exact = rng.random() < EXACT_PAIRS
    mask = apparent(edit.mask, changed(edit.picture, host.picture, 0 if exact else VISIBLE_LEVELS))
    forged, original, valid = edit.picture, host.picture, np.ones((size, size), bool)
    if not exact:
        forged = disturbances.side(rng).apply(forged)
        original = disturbances.side(rng).apply(original) if rng.random() < 0.85 else original
        original, valid = _misaligned(rng, original)
    mask &= valid
    return PairSample(forged, original, mask, valid, edit.kind if mask.any() else "authentic")


def matches(rng: np.random.Generator, sample: PairSample) -> np.ndarray:
    """Places where local features of an aligned pair would agree, [N,2] float32 x and y: outside of the edit."""
    places = np.argwhere(sample.valid & ~sample.mask)[:, ::-1].astype(np.float32)
    count = int(np.exp(rng.uniform(np.log(12), np.log(600))))
    return places[rng.integers(0, len(places), count)] if len(places) else np.zeros((0, 2), np.float32)


def _forged_often(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """One edit, at times two or three on top of each other: who swaps one face swaps others too."""
    edit = edits.forge(rng, host, donor)
    if rng.random() < LARGE_SPLICES:
        large = edits.large_splice(rng, host, donor)
        edit = large if large.mask.mean() < MOST_EDITED else edit
    for chance in MORE_EDITS:
        if rng.random() >= chance:
            break
        edit = _and_another(rng, edit, host, donor)
    return edit


def _forged(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """One edit, and at times another one on top, as people do."""
    first = edits.forge(rng, host, donor)
    return first if rng.random() >= SECOND_EDITS else _and_another(rng, first, host, donor)


def _and_another(rng: np.random.Generator, first: Edit, host: Scene, donor: Scene) -> Edit:
    """The edit with another one on top; without it where hardly anything of the host would be left."""
    second = edits.forge(rng, Scene(first.picture, host.labels), donor)
    if (first.mask | second.mask).mean() > MOST_EDITED:
        return first
    return Edit(first.kind, second.picture, first.mask | second.mask)


def camera_scene(pool: PhotoPool, rng: np.random.Generator, size: int, *, labelled: bool = False) -> Scene:
    """A scene after its camera. The camera's JPEG grid mostly lies where the final one will, as on the web."""
    scene = pool.scene(rng, size + GRID, labelled=labelled)
    picture = disturbances.camera(rng).apply(scene.picture)
    top, left = (0, 0) if rng.random() < 0.6 else (int(v) for v in rng.integers(0, GRID, 2))
    window = (slice(top, top + size), slice(left, left + size))
    labels = None if scene.labels is None else np.ascontiguousarray(scene.labels[window])
    return Scene(np.ascontiguousarray(picture[window]), labels, scene.photo)


def changed(forged: np.ndarray, host: np.ndarray, levels: int = VISIBLE_LEVELS) -> np.ndarray:
    """Where the edit changed more than `levels`, which a comparison can see, [S,S] bool, a little closed."""
    change = np.abs(forged.astype(np.int16) - host.astype(np.int16)).max(axis=2) > levels
    density = cv2.boxFilter(change.astype(np.float32), -1, (7, 7))
    return np.asarray(density > 0.15)


def apparent(mask: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What of an edit a comparison should mark, [S,S] bool: parts of which enough is `seen` whole, of others that.

    Inside of a pasted object some places look as before by chance; a person would mark the object.
    """
    count, parts = cv2.connectedComponents(mask.astype(np.uint8))
    sizes = np.bincount(parts.ravel(), minlength=count)
    visible = np.bincount(parts.ravel(), weights=seen.ravel(), minlength=count)
    whole = visible >= WHOLE_SHARE * np.maximum(sizes, 1)
    return np.asarray(mask & (whole[parts] | seen))


def _misaligned(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The original as an imperfect alignment leaves it: up to about a pixel off, a border sometimes missing."""
    size = picture.shape[0]
    valid = np.ones((size, size), bool)
    chance = rng.random()
    if chance < 0.45:
        corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float32)
        error = rng.normal(0, rng.uniform(0.1, 0.7), (4, 2)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, corners + error)
        picture = cv2.warpPerspective(
            picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    elif chance < 0.55:
        cells = int(rng.integers(2, 6))
        shift = cv2.resize(rng.normal(0, rng.uniform(0.2, 0.8), (cells, cells, 2)).astype(np.float32), (size, size))
        grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=2).astype(np.float32)
        x, y = grid[..., 0] + shift[..., 0], grid[..., 1] + shift[..., 1]
        picture = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.15:
        margin = int(rng.integers(4, size // 4))
        edge = int(rng.integers(4))
        turned = np.rot90(valid, edge)  # a view: writing to it writes to `valid`
        turned[:margin] = False
    return np.asarray(picture), valid
