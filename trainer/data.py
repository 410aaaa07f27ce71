"""Batches for a fit: generated on the way, in worker processes, the same for the same seed.

In: a pool of photographs, a seed, a starting step. Out: an endless stream of `Batch`. Batch k holds samples
k*B .. k*B+B-1 of the stream, so a resumed fit sees exactly what an unbroken one would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from model_archive import preprocess
from model_archive.networks.pair_kind import KINDS
from model_archive.networks.registry import WEB_IML
from trainer.synthesis import disturbances, objects, samples, views
from trainer.synthesis.photos import PhotoPool


class Batch(NamedTuple):
    """`x` [B,C,S,S] float32 0..1 (channels last in memory); `target` [B,1,S,S] float32 0 or 1 for networks that mark
    pixels, [B] int64 for the one that tells kinds of pairs (the kind) and the embedder (the photograph)."""

    x: Tensor
    target: Tensor


Example = tuple[np.ndarray, np.ndarray]
"""Input [C,S,S] float32 and target: mask [S,S] bool, or kind or photograph as int64 without dimensions."""


def single_example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
    """Input [4,S,S] and mask [S,S] of one single-picture sample, at times after a further save, as its twin's."""
    sample = samples.single(pool, seed, index, size)
    picture, steps = sample.picture, sample.steps
    again = disturbances.saved_again(np.random.default_rng((seed, 9, index // 2)))
    if again is not None:
        picture, steps = again.save(picture)
    return preprocess.single_input(picture, steps), sample.mask


def pair_example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
    """Input [9,S,S] and mask [S,S] of one pair sample."""
    sample = samples.pair(pool, seed, index, size)
    return preprocess.pair_input(sample.forged, sample.original, sample.valid), sample.mask


def object_example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
    """Input [10,S,S] and mask [S,S] of one sample of an object in another picture."""
    sample = objects.object_sample(pool, seed, index, size)
    return preprocess.object_input(sample.upload, sample.original, sample.valid, sample.points), sample.mask


def kind_example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
    """Input [10,K,K] and kind (place in KINDS) of one aligned pair: every second one is the same picture."""
    if index % 2:
        sample = objects.object_sample(pool, seed, index, size)
        x = preprocess.object_input(sample.upload, sample.original, sample.valid, sample.points)
        kind = "sdg" if sample.mask.any() else "unrelated"
    else:
        made = samples.pair(pool, seed, index, size)
        points = samples.matches(np.random.default_rng((seed, 5, index)), made)
        x = preprocess.object_input(made.forged, made.original, made.valid, points)
        kind = "spg"
    return preprocess.kind_input(x), np.array(KINDS.index(kind), np.int64)


def view_example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
    """Input [3,S,S] and number of the photograph in the pool, int64 without dimensions: examples 2i and 2i+1 are the
    two views of pair i."""
    pair = views.view_pair(pool, seed, index // 2)
    return preprocess.region_input(pair.upload if index % 2 else pair.original, size), np.array(pair.photo, np.int64)


EXAMPLES: dict[str, Callable[[PhotoPool, int, int, int], Example]] = {
    "correlation": object_example,
    "difference": pair_example,
    "embedder": view_example,
    "pair_kind": kind_example,
    **dict.fromkeys(WEB_IML, single_example),
}
"""How an example of each network is made."""


MARKING = ("correlation", "difference", *WEB_IML)
"""Networks that answer with a mask and a score of the picture; `pair_kind` and `embedder` answer with
neither."""


class SampleStream(IterableDataset[Batch]):
    """Batches from `first_step` on, for ever."""

    def __init__(self, network: str, pool: PhotoPool, *, seed: int, size: int, batch: int, first_step: int = 0) -> None:
        self.example = EXAMPLES[network]
        self.pool, self.seed, self.size, self.batch, self.first_step = pool, seed, size, batch, first_step

    def __iter__(self) -> Iterator[Batch]:
        """Every batch, or in a worker process every n-th, which the loader puts in order again."""
        cv2.setNumThreads(1)
        worker = get_worker_info()
        first, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        step = self.first_step + first
        while True:
            yield self.make(step)
            step += stride

    def make(self, step: int) -> Batch:
        """The batch of one step."""
        first = step * self.batch
        made = [self.example(self.pool, self.seed, first + place, self.size) for place in range(self.batch)]
        x = np.stack([each.transpose(1, 2, 0) for each, _ in made])
        targets = np.stack([target for _, target in made])
        if targets.ndim > 1:
            targets = targets[:, None].astype(np.float32)
        return Batch(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(targets))


def batches(stream: SampleStream, *, workers: int) -> Iterator[Batch]:
    """The stream's batches in order: made in so many other processes, or in this one where `workers` is 0."""
    if workers == 0:
        return iter(stream)
    loader: DataLoader[Batch] = DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=3)
    return iter(loader)
