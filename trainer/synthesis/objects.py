"""Objects of one picture in another (SDG): the forgery itself, and aligned samples of it.

In: a pool of photographs, a seed and an index. Out: `ObjectEdit` / `ObjectSample`, the same for the same numbers on any
run. An aligned sample is what the correlation network is asked: the donor laid onto the upload by the map of an object,
roughly where the matches were found, and sometimes by a map that chance has made up.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from trainer.synthesis import disturbances, samples, shapes
from trainer.synthesis.blending import harmonised, pasted, placed
from trainer.synthesis.photos import PhotoPool, Scene

SHARES = (0.03, 0.4)  # of the upload that a pasted object covers
LEAST_DETAIL = 9.0  # grey levels of spread that an object must have: a cut-out of clear sky is no object
CHANCE_SHARE = 0.15  # of the samples in which the map is chance and nothing of the donor is in the upload


@dataclass(frozen=True, slots=True)
class ObjectEdit:
    """An object of one picture in another: the forgery [S,S,3] uint8, its mask [S,S] bool, the object's mask [S,S] bool
    in the donor, and the map [3,3] from the donor's pixels to the forgery's."""

    picture: np.ndarray
    mask: np.ndarray
    cut: np.ndarray
    homography: np.ndarray


@dataclass(frozen=True, slots=True)
class ObjectSample:
    """An upload and the donor laid onto it, [S,S,3] uint8 each; `mask` [S,S] bool marks the donor's object in the
    upload, `valid` [S,S] bool where the donor has pixels; `points` [N,2] float32 are the matches, x and y."""

    upload: np.ndarray
    original: np.ndarray
    mask: np.ndarray
    valid: np.ndarray
    points: np.ndarray


def paste_object(rng: np.random.Generator, host: Scene, donor: Scene) -> ObjectEdit:
    """An object of the donor in the host: scaled, turned, at times mirrored, feathered and harmonised."""
    for _ in range(8):
        cut = shapes.region(rng, donor, prefer_things=0.85)
        turn = float(rng.choice([0.5, 15.0, 45.0]))
        moved, alpha, matrix = placed(rng, donor.picture, cut, scale=(0.45, 1.5), turn=turn)
        inside = alpha > 0.5
        if SHARES[0] < inside.mean() < SHARES[1] and moved[inside].mean(1).std() > LEAST_DETAIL:
            break
    if rng.random() < 0.5:
        moved = harmonised(rng, moved, alpha, host.picture)
    homography = np.vstack([matrix, [0.0, 0.0, 1.0]])
    return ObjectEdit(pasted(rng, host.picture, moved, alpha), alpha > 0.5, cut, homography)


def different_scenes(pool: PhotoPool, rng: np.random.Generator, size: int, count: int) -> list[Scene]:
    """Scenes of different photographs, or the last that were drawn where the pool is tiny."""
    for _ in range(8):
        scenes = [samples.camera_scene(pool, rng, size, labelled=rng.random() < 0.6) for _ in range(count)]
        if len({scene.photo for scene in scenes}) == count:
            break
    return scenes


def object_sample(pool: PhotoPool, seed: int, index: int, size: int) -> ObjectSample:
    """Sample `index` of the stream `seed`."""
    rng = np.random.default_rng((seed, 4, index))
    host, donor = different_scenes(pool, rng, size, 2)
    made = paste_object(rng, host, donor)
    chance = rng.random() < CHANCE_SHARE
    upload = disturbances.side(rng).apply(host.picture if chance else made.picture)
    original = disturbances.side(rng).apply(donor.picture)
    matrix = _misplaced(rng, made.mask) @ made.homography
    laid = cv2.warpPerspective(original, matrix, (size, size), flags=cv2.INTER_LINEAR)
    covered = cv2.warpPerspective(np.full((size, size), 255, np.uint8), matrix, (size, size)) > 250
    points = _matches(rng, made.mask & covered)
    mask = np.zeros_like(made.mask) if chance else made.mask & covered
    return ObjectSample(upload, np.asarray(laid, np.uint8), mask, covered, points)


def _misplaced(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """[3,3] the error that alignment leaves: the corners of the object's box up to about a pixel off."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    corners = np.array([[x, y], [x + width + 1, y], [x, y + height + 1]], np.float32)
    error = rng.normal(0, rng.uniform(0.1, 0.8), (3, 2)).astype(np.float32)
    return np.vstack([cv2.getAffineTransform(corners, corners + error), [0.0, 0.0, 1.0]])


def _matches(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Places of matches on an object, [N,2] float32: anywhere on it or in a part of it, one or two of them wrong."""
    size = mask.shape[0]
    inner = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    places = np.argwhere(inner if inner.any() else mask)[:, ::-1].astype(np.float32)
    if not len(places):
        return np.asarray(rng.uniform(0, size, (7, 2)), np.float32)
    if rng.random() < 0.5:
        centre = places[int(rng.integers(len(places)))]
        reach = np.sqrt(len(places)) * rng.uniform(0.3, 0.8)
        places = places[np.linalg.norm(places - centre, axis=1) <= reach]
    count = int(np.exp(rng.uniform(np.log(6), np.log(150))))
    chosen = places[rng.integers(0, len(places), count)]
    wrong = rng.uniform(0, size, (int(rng.integers(0, 3)), 2)) if rng.random() < 0.1 else np.zeros((0, 2))
    return np.concatenate([chosen, wrong]).astype(np.float32)
