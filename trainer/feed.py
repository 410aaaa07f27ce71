"""What a process of a fit is fed with: its own batches of the one stream of samples, and how fast they are made.

In: the stream's settings, which process this is of how many, and what to draw again (`trainer.mining`). Out: the
batches of this process in order, the same for any number of sample makers.

With B pictures a pass, A passes a step and W processes, batch n of process r is batch n * W + r of the stream. So step
k takes samples k*B*A*W .. (k+1)*B*A*W - 1, whichever process makes them, and W processes see in one pass what a single
one sees in W.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from trainer.data import Batch, Example, SampleStream, batches
from trainer.fit_settings import PREFETCH, FitSettings
from trainer.mining import HardExamples
from trainer.processes import Crew
from trainer.sources import source
from trainer.synthesis.photos import PhotoPool


class Feed(SampleStream):
    """The batches of one process, from a step on, for ever.

    `hard` says what is drawn again. `spent` [makers+1,2] float64 is shared between processes: seconds of making and
    pictures made, by maker.
    """

    def __init__(
        self, settings: FitSettings, pool: PhotoPool, crew: Crew, hard: HardExamples, *, first_step: int = 0
    ) -> None:
        super().__init__(
            settings.network,
            pool,
            seed=settings.seed,
            size=settings.size,
            batch=settings.batch,
            first_step=first_step * settings.accumulate,
        )
        self.rank, self.world, self.hard = crew.rank, crew.world, hard
        self.fresh = source(settings)
        self.example = self.drawn
        self.spent = torch.zeros(settings.workers + 1, 2, dtype=torch.float64).share_memory_()  # type: ignore[no-untyped-call]

    def make(self, step: int) -> Batch:
        """Batch number `step` of this process."""
        started = time.perf_counter()
        batch = super().make(step * self.world + self.rank)
        worker = get_worker_info()
        place = 0 if worker is None else worker.id + 1  # each maker writes a row of its own, so no lock is needed
        self.spent[place] += torch.tensor([time.perf_counter() - started, len(batch.x)], dtype=torch.float64)
        return batch

    def drawn(self, pool: PhotoPool, seed: int, index: int, size: int) -> Example:
        """Example `index` of the stream, or the hard one that takes its place."""
        return self.fresh(pool, seed, self.hard.drawn(index), size)

    def rate(self) -> float:
        """Pictures a second that all makers of this process together can make; nan before the first."""
        made = self.spent[self.spent[:, 1] > 0]
        return float((made[:, 1] / made[:, 0]).sum()) if len(made) else float("nan")


class Chosen(SampleStream):
    """Batches of chosen samples of the stream, for scoring: sample i of it is sample `indices`[i] of the other."""

    def __init__(self, settings: FitSettings, pool: PhotoPool, indices: np.ndarray) -> None:
        super().__init__(settings.network, pool, seed=settings.seed, size=settings.size, batch=settings.batch)
        self.fresh, self.indices = source(settings), indices
        self.example = self.drawn

    def drawn(self, pool: PhotoPool, seed: int, index: int, size: int) -> Example:
        """The chosen example at a place; past the end it starts again."""
        return self.fresh(pool, seed, int(self.indices[index % len(self.indices)]), size)


def feed(stream: SampleStream, *, workers: int, device: str) -> Iterator[Batch]:
    """The stream's batches in order; on their way to a GPU they lie in page-locked memory, which it copies faster."""
    if workers == 0 or torch.device(device).type != "cuda":
        return batches(stream, workers=workers)
    loader: DataLoader[Batch] = DataLoader(
        stream, batch_size=None, num_workers=workers, prefetch_factor=PREFETCH, pin_memory=True
    )
    return iter(loader)
