"""How good masks and scores are. Pure numpy; thresholds are fixed beforehand, never picked on the measured data.

Pixel metrics are per forged image at 0.5 and then averaged; there are no "permuted" variants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MaskScores:
    """Agreement of one mask with the truth, each 0..1."""

    f1: float
    iou: float
    precision: float
    recall: float


def mask_scores(chance: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], threshold: float = 0.5) -> MaskScores:
    """Scores of a soft mask [H,W] 0..1 against the truth [H,W]. All 1 where both are empty, 0 where one is."""
    found = chance >= threshold
    both, claimed, real = int((found & truth).sum()), int(found.sum()), int(truth.sum())
    if claimed == 0 and real == 0:
        return MaskScores(1.0, 1.0, 1.0, 1.0)
    union = claimed + real - both
    return MaskScores(
        f1=2.0 * both / (claimed + real), iou=both / union, precision=both / max(claimed, 1), recall=both / max(real, 1)
    )


def auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counted half."""
    count, rest = int(positive.sum()), int((~positive).sum())
    if count == 0 or rest == 0:
        return float("nan")
    rank_sum = float(_ranks(scores)[positive].sum())
    return (rank_sum - count * (count + 1) / 2.0) / (count * rest)


def rank_correlation(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two rows of numbers [N], -1..1; ties share their middle rank."""
    ranks = [_ranks(values) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    spread = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / spread) if spread > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    """Ranks [N] from 1 on, ties at their middle."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2.0
    return np.asarray(middle[inverse], np.float64)


def interval(values: Floats, *, seed: int = 0, rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `values`."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (rounds, len(values))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def calibration_error(scores: Floats, positive: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over bins of equal width."""
    place = np.minimum((scores * bins).astype(int), bins - 1)
    parts = [place == b for b in range(bins)]
    gaps = [abs(scores[p].mean() - positive[p].mean()) * p.mean() for p in parts if p.any()]
    return float(sum(gaps))
