"""How well originals are found again: `python -m trainer.evaluate_embedder --photos DIR`, a table beside PDQ alone.

In: photographs that nothing was fitted on, changed in a few fixed ways, each of which is then sought among all of them
(and among more, which are there to be mistaken for them). Out: for each change the share that is found first, and among
the first ten, by the embedder (the nearest of any upload's region to any stored one) and by PDQ's distance of the whole
pictures. Ties count against whoever has them. A photograph that an upload was made with beside its original is rightly
found too, and left out. `bench.lookup` measures the whole lookup; this is the network alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pdqhash
import torch

from model_archive.handlers.embedding import embedder_model
from services.core.intake.regions import STORED, Box, Vectors, crop
from trainer.synthesis import disturbances, views
from trainer.synthesis.photos import PhotoPool
from trainer.tables import table

SIDE = 320  # pixels of the shorter side that photographs are changed at
FIRST, SEVERAL = 1, 10

Embed = Callable[[Sequence[np.ndarray]], list[Vectors]]
Change = Callable[[np.random.Generator, np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]
"""Makes an upload of a photograph, its labels, and another photograph."""


@dataclass(frozen=True, slots=True)
class Found:
    """Shares 0..1 of the changed photographs whose original comes first, and among the first ten."""

    change: str
    count: int
    first: float
    tenth: float
    pdq_first: float
    pdq_tenth: float


def measured(embed: Embed, pool: PhotoPool, *, seed: int, beside: PhotoPool | None = None) -> list[Found]:
    """One row per change, for every photograph of the pool sought among all of the pool and those `beside`."""
    pictures = [pool.whole(place, SIDE) for place in range(len(pool.photos))]
    others = [] if beside is None else [beside.whole(place, SIDE)[0] for place in range(len(beside.photos))]
    stored = [picture for picture, _ in pictures] + others
    vectors = np.stack([each[:STORED] for each in _embedded(embed, stored)])
    prints = np.stack([_pdq(rgb) for rgb in stored])
    rows = []
    for number, (change, make) in enumerate(CHANGES.items()):
        uploads, hosts = [], []
        for place, (picture, labels) in enumerate(pictures):
            rng = np.random.default_rng((seed, number, place))
            hosts.append((place + int(rng.integers(1, len(stored)))) % len(stored))
            uploads.append(make(rng, picture, labels, stored[hosts[-1]]))
        near = [(vectors @ each.T).max(axis=(1, 2)) for each in _embedded(embed, uploads)]
        alike = [-(prints != _pdq(rgb)).sum(axis=1) for rgb in uploads]
        ranks, pdq = (
            [rank(np.delete(each, host), place - (host < place)) for place, (each, host) in enumerate(found)]
            for found in (list(zip(near, hosts, strict=True)), list(zip(alike, hosts, strict=True)))
        )
        shares = (float(np.mean(np.array(of) < within)) for of in (ranks, pdq) for within in (FIRST, SEVERAL))
        rows.append(Found(change, len(uploads), *shares))
    return rows


def rank(scores: np.ndarray, place: int) -> int:
    """How many of the others come before one, or with it: 0 for the first."""
    return int((scores >= scores[place]).sum()) - 1


def _embedded(embed: Embed, pictures: Sequence[np.ndarray]) -> Iterator[Vectors]:
    """Vectors of pictures, a few at a time."""
    for start in range(0, len(pictures), 8):
        yield from embed(pictures[start : start + 8])


def _pdq(rgb: np.ndarray) -> np.ndarray:
    """PDQ's 256 bits of a picture."""
    bits: np.ndarray = pdqhash.compute(np.ascontiguousarray(rgb))[0]
    return bits


def _cropped(share: float) -> Change:
    """A random window of a share of the area, of the picture's shape, saved as JPEG."""

    def change(
        rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray
    ) -> np.ndarray:
        del labels, host
        side = float(np.sqrt(share))
        left, top = rng.uniform(0, 1 - side, 2)
        part = crop(picture, Box(left, top, left + side, top + side))
        return disturbances.jpeg(np.ascontiguousarray(part), 80)

    return change


def _kept(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    del rng, labels, host
    return picture


def _small(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    del rng, labels, host
    half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return disturbances.jpeg(half, 40)


def _turned(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    del labels, host
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.choice([-15.0, 15.0])), 1.0)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)))


def _mirrored(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    del rng, labels, host
    return disturbances.jpeg(np.ascontiguousarray(picture[:, ::-1]), 80)


def _greyed(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    del rng, labels, host
    return disturbances.Disturbance(saturation=0.0, contrast=0.6, gamma=1.5, sigma=1.5, jpeg=(70,)).apply(picture)


def _covered(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    """Another photograph over one half of it."""
    del labels
    height, width = picture.shape[:2]
    upload, other = picture.copy(), cv2.resize(host, (width, height), interpolation=cv2.INTER_AREA)
    half = slice(0, width // 2) if rng.random() < 0.5 else slice(width // 2, width)
    upload[:, half] = other[:, half]
    return disturbances.jpeg(upload, 80)


def _object(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> np.ndarray:
    """One thing of it, or a drawn part where none is known, in another photograph."""
    return disturbances.jpeg(views.with_part(rng, picture, labels, host).picture, 80)


CHANGES: Mapping[str, Change] = {
    "none": _kept,
    "half the size, JPEG 40": _small,
    "half of the area": _cropped(0.5),
    "a quarter of the area": _cropped(0.25),
    "turned by 15 degrees": _turned,
    "mirrored": _mirrored,
    "grey, flat, blurred": _greyed,
    "one half replaced": _covered,
    "one part of it in another": _object,
}
"""What is done to photographs, all as JPEG afterwards but the first and the turned ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate_embedder", description=__doc__)
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of photographs")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--seed", type=int, default=20261127)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    pool, beside = (PhotoPool.scan(options.photos, options.outlines, split=split) for split in ("test", "held_out"))
    model = embedder_model(options.weights)
    rows = measured(model.embed, pool, seed=options.seed, beside=beside)
    print(f"{model.version}; {len(pool.photos)} photographs sought among {len(pool.photos) + len(beside.photos)}\n")
    columns = ("change", "first, embedder", "first, PDQ", "in ten, embedder", "in ten, PDQ")
    numbers = [(row.change, row.first, row.pdq_first, row.tenth, row.pdq_tenth) for row in rows]
    print(table(columns, [(name, *(f"{value:.2f}" for value in values)) for name, *values in numbers]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
