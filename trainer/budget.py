"""Thresholds by a budget of false alarms: `python -m trainer.budget --photos DIR`.

In: authentic photographs that the weights were not fitted on (split `held_out`), as they are on disk, and copies of
them as platforms make them. Out: the scores that 1 % and 5 % of them exceed, with intervals, as a snippet for
`services/core/policy.py`; and how much of them masks flag, at which threshold.

Where too few pictures would lie above a score to count them, the upper tail of the scores' logits is taken for
exponential (peaks over a threshold: J. Pickands, "Statistical Inference Using Extreme Order Statistics", Annals of
Statistics 3(1), 1975, with shape 0), and the report says that the score is extrapolated. Copies of one photograph are
no independent pictures: intervals draw photographs, with all their copies.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import Analysis, SingleRequest
from services.core.errors import Broken
from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.single_cases import CHANGES, SingleItem, changed, photographs
from trainer.synthesis.photos import PhotoPool

SHARES = (0.01, 0.05)
COPIES = ("clean", "JPEG 80", "JPEG 50", "resize .5")
LEAST_ABOVE = 10  # pictures above a score from which on they are counted rather than extrapolated
TAIL = 0.2  # share of the highest scores that the tail is fitted to
FLAGGED_BUDGET = 0.01
CERTAIN = 13.8  # logit of 1 - 1e-6: scores are kept within it


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score that `share` of authentic pictures exceed, its 95 % interval, and whether it had to be extrapolated."""

    share: float
    score: float
    low: float
    high: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores [N,K] of N photographs after K changes each, and the share that is flagged at each level, [N,K,256]."""

    scores: metrics.Floats
    flagged: metrics.Floats


def scored(model: Model[SingleRequest], items: Sequence[SingleItem], changes: Sequence[str]) -> Scores:
    """Every photograph after every change. Raises Broken where one cannot be analysed: none may be left out."""
    scores = np.zeros((len(items), len(changes)))
    flagged = np.zeros((len(items), len(changes), metrics.LEVELS))
    with Progress(console=Console(stderr=True)) as bar:
        for row, item in enumerate(bar.track(items, description="photographs")):
            for column, change in enumerate(changes):
                answer = model.analyse([SingleRequest(changed(item.upload, change))])[0]
                if not isinstance(answer, Analysis):
                    raise Broken(f"{item.name} ({change}): {answer.message}")
                scores[row, column] = answer.score
                counts = metrics.level_counts(answer.mask, np.zeros(answer.mask.shape, bool))
                flagged[row, column] = metrics.flagged_by_level(counts)
    return Scores(scores, flagged)


def exceeded(scores: metrics.Floats, share: float) -> tuple[float, bool]:
    """The score that `share` of the scores [N] exceed, and whether the tail had to be extrapolated. Raises ValueError
    where there are none."""
    if scores.size == 0:
        raise ValueError("no scores: a budget needs authentic photographs")
    if share * scores.size >= LEAST_ABOVE:
        return float(np.quantile(scores, 1.0 - share)), False
    clipped = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(clipped / (1.0 - clipped))
    start = float(np.quantile(logits, 1.0 - TAIL))
    beyond = logits[logits > start] - start
    mean = float(beyond.mean()) if beyond.size else 0.0
    logit = min(start + mean * float(np.log(max(TAIL / share, 1.0))), CERTAIN)
    return float(1.0 / (1.0 + np.exp(-logit))), True


def threshold(scores: metrics.Floats, share: float) -> Threshold:
    """The threshold for a share of false alarms. `scores` [N,K]: N photographs, K copies of each."""
    score, extrapolated = exceeded(scores.ravel(), share)
    places = np.arange(len(scores))
    low, high = metrics.bootstrap([places], lambda drawn: exceeded(scores[drawn].ravel(), share)[0])
    return Threshold(share, score, low, high, extrapolated)


def mask_threshold(flagged: metrics.Floats, budget: float = FLAGGED_BUDGET) -> float:
    """The lowest threshold of masks at which the mean flagged share is within the budget; `flagged` [..., 256]. 1.0
    where none is low enough."""
    within = flagged.reshape(-1, metrics.LEVELS).mean(axis=0) <= budget
    return float(within.argmax()) / (metrics.LEVELS - 1) if within.any() else 1.0


def report(found: Scores, changes: Sequence[str], version: str) -> str:
    """What was found, in words, and the policy's snippet."""
    count, copies = found.scores.shape
    levels = [threshold(found.scores, share) for share in SHARES]
    lines = [f"{count} photographs, {count * copies} pictures ({', '.join(changes)}), model {version}.", ""]
    for each in levels:
        how = f", extrapolated: fewer than {LEAST_ABOVE} pictures lie above it" if each.extrapolated else ""
        lines.append(f"{each.share:.0%} score above {each.score:.3f} (95 %: {each.low:.3f}-{each.high:.3f}{how}).")
    at = metrics.level_at(DEFAULT_POLICY.mask_threshold)
    for column, change in enumerate(changes):
        area, mine = found.flagged[:, column, at], found.scores[:, column]
        alarms = ", ".join(f"{(mine >= _up(each.score)).mean():.1%} at {_up(each.score)}" for each in levels)
        low, high = metrics.interval(area)
        lines.append(f"{change}: {area.mean():.2%} flagged ({low:.2%}-{high:.2%}); scores alarm on {alarms}.")
    lines += [
        f"Masks flag {found.flagged[..., at].mean():.2%} at the policy's {DEFAULT_POLICY.mask_threshold}; at most "
        f"{FLAGGED_BUDGET:.0%} from a threshold of {mask_threshold(found.flagged):.3f} on.",
        "",
        "unconstrained: PathPolicy = PathPolicy(",
        f"    manipulated_at={_up(levels[0].score)}, doubtful_at={_up(levels[1].score)}, "
        f"least_area={DEFAULT_POLICY.unconstrained.least_area}",
        ")",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.budget", description=__doc__)
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of authentic photographs")
    parser.add_argument(
        "--split", choices=("held_out", "test", "all"), default="held_out", help="which of the photographs"
    )
    parser.add_argument("--change", choices=CHANGES, action="append", help=f"copies to make ({', '.join(COPIES)})")
    parser.add_argument("--most", type=int, help="photographs at most")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    pool = PhotoPool.scan(options.photos, split=options.split)
    model = unconstrained_model(options.weights)
    changes = options.change or COPIES
    print(report(scored(model, list(photographs(pool.photos[: options.most])), changes), changes, model.version))
    return 0


def _up(score: float) -> float:
    """A score rounded up, so that the budget holds."""
    return float(min(np.ceil(score * 1000.0) / 1000.0, 1.0))


if __name__ == "__main__":
    raise SystemExit(main())
