"""How good masks and scores are. Pure numpy; thresholds are fixed beforehand, never picked on the measured data.

Pixel metrics are per forged image at 0.5 and then averaged; there are no "permuted" variants. Soft masks have 256
levels, so the counts of pixels by level (`level_counts`) hold everything that is asked of one: scores at any threshold,
the best threshold, the area under the ROC curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
"""Pixels of a mask by level, [2,256]: the authentic ones in the first row, the forged ones in the second."""

LEVELS = 256


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


def interval(values: Floats, *, seed: int = 0, rounds: int = 1000, tail: float = 0.025) -> tuple[float, float]:
    """Bootstrap interval of the mean of `values`; `tail` is the chance on either side of it, 2.5 % for a 95 % one."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (rounds, len(values))).mean(axis=1)
    return float(np.quantile(means, tail)), float(np.quantile(means, 1.0 - tail))


def calibration_error(
    scores: Floats, positive: npt.NDArray[np.bool_], bins: int = 10, *, weights: Floats | None = None
) -> float:
    """Expected calibration error over bins of equal width; `weights` [N] say how much each score counts (alike)."""
    weight = np.ones(len(scores)) if weights is None else weights
    place = np.minimum((scores * bins).astype(int), bins - 1)
    parts = [place == b for b in range(bins)]
    gaps = [
        abs(float(np.average(scores[p], weights=weight[p]) - np.average(positive[p], weights=weight[p])))
        * weight[p].sum()
        for p in parts
        if weight[p].sum() > 0
    ]
    return float(sum(gaps) / weight.sum())


def tpr_at_fpr(scores: Floats, positive: npt.NDArray[np.bool_], rate: float) -> float:
    """The share of positives above the lowest threshold that at most the share `rate` of negatives lies above; NaN
    where there are none of either."""
    yes, no = scores[positive], np.sort(scores[~positive])[::-1]
    if not yes.size or not no.size:
        return float("nan")
    return float((yes > no[int(rate * no.size + 1e-9)]).mean())


def level_counts(levels: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_]) -> Counts:
    """Counts of a soft mask [H,W] uint8, 255 being 1, against the truth [H,W]."""
    both = np.bincount(levels.ravel() + LEVELS * truth.ravel().astype(np.int64), minlength=2 * LEVELS)
    return both.reshape(2, LEVELS).astype(np.int64)


def level_at(threshold: float) -> int:
    """The first level that is at or above a threshold 0..1."""
    return int(np.ceil(threshold * (LEVELS - 1) - 1e-9))


def f1_by_level(counts: Counts) -> Floats:
    """F1 of a mask of which something is forged, cut at each level, [256]."""
    found = _above(counts)
    return np.asarray(2.0 * found[1] / (found.sum(axis=0) + counts[1].sum()))


def scores_at(counts: Counts, threshold: float) -> MaskScores:
    """What `mask_scores` says of the mask that the counts are of."""
    missed, hit = (int(count) for count in _above(counts)[:, level_at(threshold)])
    real = int(counts[1].sum())
    if missed + hit == 0 and real == 0:
        return MaskScores(1.0, 1.0, 1.0, 1.0)
    return MaskScores(
        f1=2.0 * hit / (missed + hit + real),
        iou=hit / (missed + real),
        precision=hit / max(missed + hit, 1),
        recall=hit / max(real, 1),
    )


def flagged_by_level(counts: Counts) -> Floats:
    """The share of a picture that is flagged when its mask is cut at each level, [256]; forged or not."""
    return np.asarray(_above(counts).sum(axis=0) / counts.sum())


def best_threshold(curves: Floats) -> tuple[float, float]:
    """The one threshold for all pictures at which their mean F1 is the highest, and that mean. `curves` [N,256] are
    from `f1_by_level`. The threshold 0, at which any mask flags everything, is left out."""
    means = curves[:, 1:].mean(axis=0)
    level = int(means.argmax()) + 1
    return level / (LEVELS - 1), float(means[level - 1])


def pixel_auc(counts: Counts) -> float:
    """The chance that a forged pixel has a higher level than an authentic one, ties counted half; NaN where there are
    no pixels of either."""
    authentic, forged = counts
    if not authentic.sum() or not forged.sum():
        return float("nan")
    below = np.cumsum(authentic) - authentic
    return float((forged * (below + authentic / 2.0)).sum() / (float(authentic.sum()) * float(forged.sum())))


def ratio_interval(ours: Floats, theirs: Floats, *, seed: int = 0, rounds: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of mean(ours) / mean(theirs), both [N] of the same pictures, which are drawn together."""
    places = np.arange(len(ours))
    return bootstrap([places], lambda drawn: ours[drawn].mean() / max(theirs[drawn].mean(), 1e-9), seed, rounds)


def bootstrap(
    groups: Sequence[npt.NDArray[np.intp]],
    statistic: Callable[[npt.NDArray[np.intp]], float],
    seed: int = 0,
    rounds: int = 1000,
) -> tuple[float, float]:
    """95 % bootstrap interval of a statistic of places; each of the `groups` of places is drawn from on its own."""
    rng = np.random.default_rng(seed)
    drawn = (np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(rounds))
    values = np.array([statistic(places) for places in drawn])
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))


def _above(counts: Counts) -> Counts:
    """Pixels at or above each level, [2,256]."""
    return np.asarray(np.cumsum(counts[:, ::-1], axis=1)[:, ::-1])
