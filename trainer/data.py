"""Batches for a fit: generated on the way, in one worker process, the same for the same seed.

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
from torch.utils.data import DataLoader, IterableDataset

from model_archive import preprocess
from trainer.synthesis import samples
from trainer.synthesis.photos import PhotoPool


class Batch(NamedTuple):
    """`x` [B,C,S,S] float32 0..1 (C = 3 or 9, channels last in memory); `mask` [B,1,S,S] float32 0 or 1."""

    x: Tensor
    mask: Tensor


def single_example(pool: PhotoPool, seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Input [3,S,S] and mask [S,S] of one single-picture sample."""
    sample = samples.single(pool, seed, index, size)
    return preprocess.rgb_input(sample.picture), sample.mask


def pair_example(pool: PhotoPool, seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Input [9,S,S] and mask [S,S] of one pair sample."""
    sample = samples.pair(pool, seed, index, size)
    return preprocess.pair_input(sample.forged, sample.original, sample.valid), sample.mask


EXAMPLES: dict[str, Callable[[PhotoPool, int, int, int], tuple[np.ndarray, np.ndarray]]] = {
    "difference": pair_example,
    "web_iml": single_example,
}
"""How an example of each network is made."""


class SampleStream(IterableDataset[Batch]):
    """Batches from `first_step` on, for ever."""

    def __init__(self, network: str, pool: PhotoPool, *, seed: int, size: int, batch: int, first_step: int = 0) -> None:
        self.network, self.example = network, EXAMPLES[network]
        self.pool, self.seed, self.size, self.batch, self.first_step = pool, seed, size, batch, first_step

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        step = self.first_step
        while True:
            yield self.make(step)
            step += 1

    def make(self, step: int) -> Batch:
        """The batch of one step."""
        channels = preprocess.CHANNELS[self.network]
        x = np.empty((self.batch, self.size, self.size, channels), np.float32)
        mask = np.empty((self.batch, 1, self.size, self.size), np.float32)
        for place in range(self.batch):
            made, forged = self.example(self.pool, self.seed, step * self.batch + place, self.size)
            x[place], mask[place, 0] = made.transpose(1, 2, 0), forged
        return Batch(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(mask))


def batches(stream: SampleStream, *, workers: int) -> Iterator[Batch]:
    """The stream's batches in order: made in one other process, or in this one where `workers` is 0."""
    if workers not in (0, 1):
        raise ValueError("one worker keeps the batches in order: workers must be 0 or 1")
    if workers == 0:
        return iter(stream)
    loader: DataLoader[Batch] = DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=3)
    return iter(loader)
