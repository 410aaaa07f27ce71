"""Pairs as they arrive: an upload and a picture that may be its original, nothing aligned, kind and masks known.

In: a pool of photographs, a seed and an index. Out: `PairCase`, the same for the same numbers on any run. Here the
classifier of pairs learns, and the constrained path as a whole is measured; `samples` makes the aligned samples that
the mask networks are fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from trainer.synthesis import disturbances, edits, samples
from trainer.synthesis.blending import Edit
from trainer.synthesis.objects import different_scenes, paste_object
from trainer.synthesis.photos import PhotoPool, Scene

Kind = Literal["spg", "sdg", "unrelated"]
SIDES = (256, 320, 384, 512)
ATTEMPTS = 4  # at a case whose forgery a crop has not cut away
AUTHENTIC_SHARE = 0.2  # of the SPG pairs that are unedited copies

CHANGES = ("none", "jpeg", "resize", "colour", "noise", "crop", "rotation", "mirror", "border")
"""What happens to a whole side of a pair, one of these each, beside a save as JPEG."""


@dataclass(frozen=True, slots=True)
class PairCase:
    """An unaligned pair: `upload` [H,W,3] and `original` [h,w,3] uint8.

    `mask` [H,W] bool marks what is forged in the upload; `original_mask` [h,w] bool the object in the original, for
    `sdg` alone. `homography` [3,3] takes the original's pixels to the upload's: the whole picture's for `spg`, the
    object's for `sdg`, None for `unrelated`. `edit` and `change` name what was done.
    """

    upload: np.ndarray
    original: np.ndarray
    mask: np.ndarray
    original_mask: np.ndarray
    kind: Kind
    edit: str
    change: str
    homography: np.ndarray | None


def case(pool: PhotoPool, seed: int, index: int, *, kind: Kind, side: int | None = None) -> PairCase:
    """Case `index` of the stream `seed`, of a kind."""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng((seed, 3, index, attempt))
        size = side or int(rng.choice(SIDES))
        host, donor, third = different_scenes(pool, rng, size, 3)
        match kind:
            case "spg":
                made = _in_place(rng, host, donor)
            case "sdg":
                made = _object_moved(rng, host, donor)
            case _:
                made = _strangers(rng, host, donor, third)
        done = _on_their_ways(rng, made)
        if not made.mask.any() or done.mask.mean() > edits.SMALLEST_SHARE:
            break
    return done


def _in_place(rng: np.random.Generator, host: Scene, donor: Scene) -> PairCase:
    """The same picture, mostly edited."""
    size = host.picture.shape[0]
    edit = Edit("authentic", host.picture, np.zeros((size, size), bool))
    if rng.random() >= AUTHENTIC_SHARE:
        edit = edits.forge(rng, host, donor)
    mask = samples.apparent(edit.mask, samples.changed(edit.picture, host.picture))
    name = edit.kind if mask.any() else "authentic"
    return PairCase(edit.picture, host.picture, mask, np.zeros_like(mask), "spg", name, "none", np.eye(3))


def _object_moved(rng: np.random.Generator, host: Scene, donor: Scene) -> PairCase:
    made = paste_object(rng, host, donor)
    return PairCase(made.picture, donor.picture, made.mask, made.cut, "sdg", "object", "none", made.homography)


def _strangers(rng: np.random.Generator, first: Scene, second: Scene, third: Scene) -> PairCase:
    """Two photographs that share nothing; either may hold something of a third."""
    upload, original = (
        paste_object(rng, scene, third).picture if rng.random() < 0.25 and not taken else scene.picture
        for taken, scene in ((False, first), (True, second))
    )
    nothing = np.zeros(upload.shape[:2], bool)
    return PairCase(upload, original, nothing, nothing.copy(), "unrelated", "none", "none", None)


def _on_their_ways(rng: np.random.Generator, made: PairCase) -> PairCase:
    """Both sides after what happens to them on their own: one named change on one of them, a save on each."""
    change = str(rng.choice(CHANGES))
    on_upload = bool(rng.random() < 0.6)
    size = made.upload.shape[0]
    matrix, frame = _geometry(rng, change, size)
    upload, original, mask, object_mask = made.upload, made.original, made.mask, made.original_mask
    homography = made.homography
    if on_upload:
        upload, mask = _moved(upload, matrix, frame), _moved_mask(mask, matrix, frame)
        homography = None if homography is None else matrix @ homography
    else:
        original, object_mask = _moved(original, matrix, frame), _moved_mask(object_mask, matrix, frame)
        homography = None if homography is None else homography @ np.linalg.inv(matrix)
    tones = [_tone(rng, change) if mine else _save(rng) for mine in (on_upload, not on_upload)]
    if change == "none" and made.kind == "spg":
        tones = [disturbances.Disturbance(), disturbances.Disturbance()]
    return replace(
        made,
        upload=tones[0].apply(upload),
        original=tones[1].apply(original),
        mask=mask,
        original_mask=object_mask,
        change=change,
        homography=homography,
    )


def _geometry(rng: np.random.Generator, change: str, size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """[3,3] map from a picture of `size` to its changed frame, and that frame's (width, height)."""
    centre = (size - 1) / 2
    match change:
        case "resize":
            factor = float(np.exp(rng.uniform(np.log(0.5), np.log(1.5))))
            sides = round(size * factor), round(size * factor)
            half = (factor - 1) / 2
            return np.array([[factor, 0, half], [0, factor, half], [0, 0, 1.0]]), sides
        case "crop":
            width, height = (int(size * v) for v in rng.uniform(0.6, 0.95, 2))
            left, top = int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1))
            return np.array([[1.0, 0, -left], [0, 1.0, -top], [0, 0, 1]]), (width, height)
        case "rotation":
            turn = float(rng.uniform(-25, 25))
            matrix = cv2.getRotationMatrix2D((centre, centre), turn, float(rng.uniform(1.0, 1.25)))
            return np.vstack([matrix, [0, 0, 1.0]]), (size, size)
        case "mirror":
            return np.array([[-1.0, 0, size - 1], [0, 1.0, 0], [0, 0, 1]]), (size, size)
        case "border":
            left, top = (int(v) for v in rng.integers(size // 30, size // 8, 2))
            return np.array([[1.0, 0, left], [0, 1.0, top], [0, 0, 1]]), (size + 2 * left, size + 2 * top)
    return np.eye(3), (size, size)


def _tone(rng: np.random.Generator, change: str) -> disturbances.Disturbance:
    """What a change does to the pixels, beside its geometry, with a save at the end."""
    save = _save(rng)
    match change:
        case "jpeg":
            return replace(save, jpeg=(int(rng.integers(50, 76)),), chroma=False)
        case "noise":
            return replace(save, noise=float(rng.uniform(2, 6)))
        case "colour":
            gains = np.exp(rng.normal(0, 0.1, 3) + rng.normal(0, 0.12))
            return replace(
                save,
                gain=(float(gains[0]), float(gains[1]), float(gains[2])),
                offset=float(rng.normal(0, 8)),
                gamma=float(np.exp(rng.normal(0, 0.2))),
                saturation=float(rng.uniform(0.3, 1.5)),
            )
    return save


def _save(rng: np.random.Generator) -> disturbances.Disturbance:
    quality = (int(rng.integers(70, 99)),) if rng.random() < 0.85 else ()
    return disturbances.Disturbance(jpeg=quality, noise_seed=int(rng.integers(2**31)), chroma=bool(rng.random() < 0.3))


def _moved(picture: np.ndarray, matrix: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale < 0.98 and frame[0] < picture.shape[1]:  # a plain reduction: averaged, as an editor would
        return cv2.resize(picture, frame, interpolation=cv2.INTER_AREA)
    whole = bool(np.allclose(matrix, np.round(matrix)))
    return cv2.warpPerspective(picture, matrix, frame, flags=cv2.INTER_NEAREST if whole else cv2.INTER_CUBIC)


def _moved_mask(mask: np.ndarray, matrix: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    moved = cv2.warpPerspective(mask.astype(np.float32), matrix, frame, flags=cv2.INTER_LINEAR)
    return np.asarray(moved > 0.5)
