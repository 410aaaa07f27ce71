"""Hard examples are drawn again: which, and when.

In: losses of a pool of samples by the averaged network. Out: for every place of the stream the sample to make there.
Only indices are kept; samples are made again from the seed. Samples 2i and 2i+1, for the single-image network a forgery
and its authentic twin, are scored and drawn again together, so that the twins stay side by side and half of the
pictures authentic.

Rounds of `every` steps: at the end of round r a pool of fresh samples of that round is scored, and the hardest of them
are drawn in round r + 2, never sooner. Sample makers, which work ahead of the fit, so never meet a table that is being
changed, and a fit is the same for any number of them. Two tables are enough, of the even and of the odd rounds.

Choosing what is hard by loss is online hard example mining (Shrivastava et al., CVPR 2016), here over rounds instead
of within a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.fit_settings import Mining

_REDRAW, _POOL = 17, 18  # apart from the numbers that samples are seeded with


class HardExamples:
    """Which samples take the place of others.

    `tables` [2,K] int64 holds numbers of twin pairs, for even and for odd rounds, -1 where there is none; it lies in
    memory that sample makers share.
    """

    def __init__(self, mining: Mining, *, seed: int, pictures_a_step: int) -> None:
        self.mining, self.seed, self.pictures_a_step = mining, seed, pictures_a_step
        self.pairs_scored = mining.pool // 2
        kept = max(1, round(self.pairs_scored * mining.keep))
        self.tables = torch.full((2, kept), -1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def due(self, step: int) -> bool:
        """Whether a pool is to be scored now that `step` steps are done."""
        return self.mining.share > 0 and step > 0 and step % self.mining.every == 0

    def drawn(self, index: int) -> int:
        """The sample to make at a place of the stream: `index` itself, or a hard one of the same parity."""
        if self.mining.share == 0:
            return index
        pair, side = divmod(index, 2)
        step = index // self.pictures_a_step
        table = self.tables[step // self.mining.every % 2]
        known = int((table >= 0).sum())
        rng = np.random.default_rng((self.seed, _REDRAW, pair))
        if known == 0 or rng.random() >= self.mining.share:
            return index
        return 2 * int(table[int(rng.integers(known))]) + side

    def pool(self, step: int) -> np.ndarray:
        """Samples to score after `step` steps, [pool] int64: both of some pairs of the round that ends there."""
        last = step * self.pictures_a_step // 2
        first = (step - self.mining.every) * self.pictures_a_step // 2
        rng = np.random.default_rng((self.seed, _POOL, step))
        pairs = first + rng.choice(last - first, size=min(self.pairs_scored, last - first), replace=False)
        return np.stack([2 * pairs, 2 * pairs + 1], axis=1).ravel()

    def learn(self, step: int, indices: np.ndarray, losses: np.ndarray) -> None:
        """Keeps the hardest pairs of a pool: `losses` [pool/2] float64, one for each two of `indices` [pool]."""
        hardest = indices[::2][np.argsort(-losses, kind="stable")] // 2
        table = torch.full_like(self.tables[0], -1)
        kept = min(len(table), len(hardest), max(1, round(len(hardest) * self.mining.keep)))
        table[:kept] = torch.from_numpy(hardest[:kept].astype(np.int64))
        # Round r ends at `step`, where round r + 1 = step / every begins; the table of round r + 2 has r's place.
        self.tables[(step // self.mining.every + 1) % 2] = table

    def to_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"hard": self.tables.clone()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Continues from `to_dict`. Raises ValueError where the fit mined otherwise."""
        tables: Tensor | None = saved.get("hard")
        if tables is None:
            return
        if tables.shape != self.tables.shape:
            raise ValueError("the checkpoint is of a fit with another --mine-pool: resume with the same options")
        self.tables.copy_(tables)
