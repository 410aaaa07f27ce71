"""Photographs and the outlines of things in them: the raw material of every generated forgery.

In: folders of photographs, and folders of label maps (one PNG per photograph, same stem, one value a region).
Out: `PhotoPool`, which cuts a random `Scene` of a wanted size out of a random photograph. The pool is split by a hash
of the file's stem, so that neither calibration nor tests ever see a photograph that the weights were fitted on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT_SHARE = 0.08
TEST_SHARE = 0.06
RETRIES = (0.5, 2.0, 8.0)  # seconds before a photograph that could not be read is tried again
Split = Literal["fit", "held_out", "test", "all"]
"""`fit` for weights, `held_out` for their calibration, `test` for figures that are published."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A square cut-out of one photograph.

    `picture` [S,S,3] uint8 sRGB; `labels` [S,S] int32 regions, or None if not known; `photo` names the photograph.
    """

    picture: np.ndarray
    labels: np.ndarray | None
    photo: str = ""


@dataclass(frozen=True, slots=True)
class Photo:
    """One photograph on disk, with its label map where there is one. `pixels` is its size, for weighted choice."""

    path: Path
    labels: Path | None
    pixels: int


class PhotoPool:
    """Random scenes from photographs. Choice is weighted by pixels, so that large photographs are used as often as
    they have places to cut from."""

    def __init__(self, photos: Sequence[Photo]) -> None:
        if len(photos) < 2:
            raise ValueError(
                f"a pool needs two photographs at least, found {len(photos)}: give another --photos folder"
            )
        self.photos = tuple(photos)
        self._labelled = tuple(photo for photo in photos if photo.labels is not None)

    @classmethod
    def scan(cls, folders: Sequence[Path], outlines: Sequence[Path] = (), *, split: Split = "fit") -> PhotoPool:
        """The photographs of one split under `folders`, in a stable order. Label maps are matched by stem."""
        labels = {path.stem: path for folder in outlines for path in sorted(folder.rglob("*.png"))}
        paths = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        stems = [path.stem for path in paths]
        kept, tested = held_out(stems), tests(stems)
        splits: dict[Split, set[str]] = {
            "all": set(stems),
            "fit": set(stems) - kept - tested,
            "held_out": kept,
            "test": tested,
        }
        chosen = [path for path in paths if path.stem in splits[split]]
        return cls([Photo(p, labels.get(p.stem), _pixels(p)) for p in chosen])

    def digest(self) -> str:
        """SHA-256 over names and sizes of the files: says which data a set of weights came from."""
        lines = (f"{photo.path.name} {photo.path.stat().st_size}\n" for photo in self.photos)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def whole(self, place: int, shorter: int) -> tuple[np.ndarray, np.ndarray | None]:
        """All of photograph number `place`, [H,W,3] uint8, and its labels [H,W] int32 where it has any; reduced to a
        shorter side of `shorter` pixels, and never enlarged."""
        photo = self.photos[place]
        picture = read_rgb(photo.path)
        labels = None if photo.labels is None else read_labels(photo.labels, picture.shape[:2])
        scale = shorter / min(picture.shape[:2])
        return (picture, labels) if scale >= 1.0 else _resized(picture, labels, scale, 1)

    def scene(self, rng: np.random.Generator, size: int, *, labelled: bool = False) -> Scene:
        """A square cut-out of `size` pixels, scaled at random, flipped at random; enlarged where the photo is small.

        `labelled` asks for a photograph whose things are outlined, where the pool has any.
        """
        photo = _weighted(rng, self._labelled if labelled and self._labelled else self.photos)
        picture = read_rgb(photo.path)
        labels = None if photo.labels is None else read_labels(photo.labels, picture.shape[:2])
        smallest = size / min(picture.shape[:2])
        scale = max(smallest, float(rng.uniform(0.5, 1.25)))
        if abs(scale - 1.0) > 0.02 or smallest > 1.0:
            picture, labels = _resized(picture, labels, scale, size)
        top = int(rng.integers(0, picture.shape[0] - size + 1))
        left = int(rng.integers(0, picture.shape[1] - size + 1))
        window = (slice(top, top + size), slice(left, left + size))
        step = -1 if rng.random() < 0.5 else 1
        cut = None if labels is None else np.ascontiguousarray(labels[window][:, ::step])
        return Scene(np.ascontiguousarray(picture[window][:, ::step]), cut, photo.path.stem)


def held_out(stems: Sequence[str]) -> set[str]:
    """The stems that are kept for calibration: about 8 % of them, chosen by hash; two of a small collection."""
    ranked = sorted(set(stems), key=_place)
    return set(ranked[:2]) | {stem for stem in ranked if _place(stem) < HELD_OUT_SHARE}


def tests(stems: Sequence[str]) -> set[str]:
    """The stems that are kept for tests: about 6 % of them, chosen by hash; none of a small collection, perhaps."""
    inside = {stem for stem in stems if HELD_OUT_SHARE <= _place(stem) < HELD_OUT_SHARE + TEST_SHARE}
    return inside - held_out(stems)


def _place(stem: str) -> float:
    """Where a stem falls, 0..1, whatever else there is."""
    return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") / 2**64


def read_rgb(path: Path) -> np.ndarray:
    """The picture in a file, [H,W,3] uint8 sRGB. Raises ValueError where it cannot be decoded.

    It is tried again for a while before that: a share that is gone for a moment must not end a fit of hours.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    for pause in RETRIES:
        if image is not None:
            break
        time.sleep(pause)
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is not a picture that OpenCV can read: remove it from the folder")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_labels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The label map in a file, brought to `shape` (height, width), [H,W] int32. Raises ValueError."""
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise ValueError(f"{path} is not a label map that OpenCV can read")
    if labels.ndim == 3:  # a palette PNG arrives as colours: one number per colour keeps regions apart
        labels = labels[..., :3].astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    return cv2.resize(labels.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST).astype(np.int32)


def _weighted(rng: np.random.Generator, photos: Sequence[Photo]) -> Photo:
    weights = np.cumsum([photo.pixels for photo in photos], dtype=np.float64)
    return photos[int(np.searchsorted(weights[:-1], rng.random() * weights[-1], side="right"))]


def _resized(
    picture: np.ndarray, labels: np.ndarray | None, scale: float, size: int
) -> tuple[np.ndarray, np.ndarray | None]:
    height, width = (max(size, round(side * scale)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    picture = cv2.resize(picture, (width, height), interpolation=how)
    if labels is None:
        return picture, None
    labels = cv2.resize(labels.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    return picture, labels.astype(np.int32)


def _pixels(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        return int(image.width * image.height)
