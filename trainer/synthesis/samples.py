"""From scenes to what a network is fitted on: single pictures with their authentic twins, and pairs.

In: a pool of photographs, a seed and an index. Out: `SingleSample` or `PairSample`, the same for the same numbers on
any run. Half of the single pictures are authentic twins: the unedited host after the very same save.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis import disturbances, edits
from trainer.synthesis.photos import PhotoPool, Scene

GRID = 8  # the side of a JPEG block
AUTHENTIC_PAIRS = 0.22
OUTLINED_DONORS = 0.5  # how often the donor is asked to be a photograph with outlined things
VISIBLE_LEVELS = 7  # a pixel that changed by less, in grey levels, cannot be told from recompression


@dataclass(frozen=True, slots=True)
class SingleSample:
    """`picture` [S,S,3] uint8 sRGB; `mask` [S,S] bool, all false on an authentic twin; `kind` of the edit."""

    picture: np.ndarray
    mask: np.ndarray
    kind: str


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
    host, donor = _host(pool, rng, size), _host(pool, rng, size, labelled=rng.random() < OUTLINED_DONORS)
    edit = edits.forge(rng, host, donor)
    save = disturbances.saved(rng)
    if index % 2:
        return SingleSample(save.apply(host.picture), np.zeros((size, size), bool), "authentic")
    return SingleSample(save.apply(edit.picture), edit.mask, edit.kind)


def pair(pool: PhotoPool, seed: int, index: int, size: int) -> PairSample:
    """Sample `index` of the stream `seed`: each side disturbed on its own; about a fifth is not forged at all."""
    rng = np.random.default_rng((seed, 2, index))
    host, donor = _host(pool, rng, size), _host(pool, rng, size, labelled=rng.random() < OUTLINED_DONORS)
    if rng.random() < AUTHENTIC_PAIRS:
        edit = edits.Edit("authentic", host.picture, np.zeros((size, size), bool))
    else:
        edit = edits.forge(rng, host, donor)
    mask = edit.mask & _visible(edit.picture, host.picture)
    forged = disturbances.side(rng).apply(edit.picture)
    original = disturbances.side(rng).apply(host.picture) if rng.random() < 0.85 else host.picture
    original, valid = _misaligned(rng, original)
    mask &= valid
    return PairSample(forged, original, mask, valid, edit.kind if mask.any() else "authentic")


def _host(pool: PhotoPool, rng: np.random.Generator, size: int, *, labelled: bool = False) -> Scene:
    """A scene after its camera. The camera's JPEG grid mostly lies where the final one will, as on the web."""
    scene = pool.scene(rng, size + GRID, labelled=labelled)
    picture = disturbances.camera(rng).apply(scene.picture)
    top, left = (0, 0) if rng.random() < 0.6 else (int(v) for v in rng.integers(0, GRID, 2))
    window = (slice(top, top + size), slice(left, left + size))
    labels = None if scene.labels is None else np.ascontiguousarray(scene.labels[window])
    return Scene(np.ascontiguousarray(picture[window]), labels)


def _visible(forged: np.ndarray, host: np.ndarray) -> np.ndarray:
    """Where the edit changed something that a comparison can see, [S,S] bool, a little closed."""
    change = np.abs(forged.astype(np.int16) - host.astype(np.int16)).max(axis=2) > VISIBLE_LEVELS
    density = cv2.boxFilter(change.astype(np.float32), -1, (7, 7))
    return np.asarray(density > 0.15)


def _misaligned(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The original as an imperfect alignment leaves it: up to about a pixel off, a border sometimes missing."""
    size = picture.shape[0]
    valid = np.ones((size, size), bool)
    if rng.random() < 0.55:
        corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], dtype=np.float32)
        error = rng.normal(0, rng.uniform(0.1, 0.7), (4, 2)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(corners, corners + error)
        picture = cv2.warpPerspective(
            picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    if rng.random() < 0.15:
        margin = int(rng.integers(4, size // 4))
        edge = int(rng.integers(4))
        turned = np.rot90(valid, edge)  # a view: writing to it writes to `valid`
        turned[:margin] = False
    return picture, valid
