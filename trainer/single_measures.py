"""Measures single pictures: our mask and score, and the masks of the handcrafted baselines beside them.

In: `SingleItem`s and the model that serves. Out: `Measured`, which holds of each soft mask how many pixels it gives
which level, so that any threshold can be asked for afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from model_archive.handlers.analysis import Model
from model_archive.handlers.results import Analysis, SingleRequest
from services.core.errors import Rejected
from services.core.pixels import open_image
from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.single_baselines import BASELINES, otsu
from trainer.single_cases import SingleItem, changed

Levels = npt.NDArray[np.uint8]
OURS = "ours"
ALL_FLAGGED = "all flagged"
OTSU = "Otsu"


@dataclass(frozen=True, slots=True)
class Measured:
    """One picture after one change.

    `counts` and `otsu_counts` are of each method's soft mask, and of its mask cut by Otsu's threshold (baselines only);
    `score` is the calibrated one, 0 where the analysis failed; `area` is the forged share of the picture.
    """

    name: str
    data: str
    edit: str
    change: str
    forged: bool
    area: float
    score: float
    failed: bool
    seconds: float
    counts: dict[str, metrics.Counts] = field(repr=False)
    otsu_counts: dict[str, metrics.Counts] = field(repr=False)


def measured(model: Model[SingleRequest], item: SingleItem, change: str) -> Measured:
    """A picture, analysed after a change. What the model cannot analyse counts as an empty mask and a score of 0, never
    as left out. Masks are enlarged to the truth's size."""
    nothing = np.zeros(item.mask.shape, np.uint8)
    levels, good = dict.fromkeys((OURS, *BASELINES), nothing), None
    try:
        upload = changed(item.upload, change)
        picture = open_image(upload).rgb
    except Rejected:
        picture = None
    if picture is not None:
        answer = model.analyse([SingleRequest(upload)])[0]
        good = answer if isinstance(answer, Analysis) else None
        levels |= {name: fitted_levels(as_levels(made(picture)), nothing.shape) for name, made in BASELINES.items()}
    if good is not None:
        levels[OURS] = fitted_levels(good.mask, nothing.shape)
    return Measured(
        name=item.name,
        data=item.data,
        edit=item.edit,
        change=change,
        forged=item.forged,
        area=float(item.mask.mean()),
        score=0.0 if good is None else good.score,
        failed=good is None,
        seconds=0.0 if good is None else good.seconds,
        counts={name: metrics.level_counts(each, item.mask) for name, each in levels.items()},
        otsu_counts={name: _cut(levels[name], item.mask) for name in BASELINES},
    )


def calibrated_thresholds(items: Sequence[SingleItem]) -> dict[str, float]:
    """Of each baseline the threshold of the highest mean F1 on these forgeries."""
    curves: dict[str, list[metrics.Floats]] = {name: [] for name in BASELINES}
    for item in items:
        picture = open_image(item.upload).rgb
        for name, baseline in BASELINES.items():
            curves[name].append(metrics.f1_by_level(metrics.level_counts(as_levels(baseline(picture)), item.mask)))
    return {name: metrics.best_threshold(np.stack(each))[0] for name, each in curves.items()}


@dataclass(frozen=True, slots=True)
class Method:
    """A way to a mask: its name, how it is cut in words, and its counts with the threshold to cut them at."""

    name: str
    cut: str
    threshold: float
    counts: Callable[[Measured], metrics.Counts]

    def scores(self, row: Measured) -> metrics.MaskScores:
        """The scores of one picture's mask."""
        return metrics.scores_at(self.counts(row), self.threshold)

    def f1(self, rows: Sequence[Measured]) -> metrics.Floats:
        """F1 of each picture, [N]."""
        return np.array([self.scores(row).f1 for row in rows])

    def flagged(self, rows: Sequence[Measured]) -> metrics.Floats:
        """The flagged share of each picture, [N]."""
        level = metrics.level_at(self.threshold)
        return np.array([metrics.flagged_by_level(self.counts(row))[level] for row in rows])


def ours() -> Method:
    """Our mask at the policy's threshold."""
    return Method(OURS, f"{DEFAULT_POLICY.mask_threshold}", DEFAULT_POLICY.mask_threshold, lambda row: row.counts[OURS])


def baseline(name: str, thresholds: dict[str, float], rows: Sequence[Measured]) -> Method:
    """A baseline cut at its calibrated threshold or by Otsu's, whichever gives these forgeries the higher mean F1."""
    fixed = Method(name, f"{thresholds[name]:.2f}", thresholds[name], lambda row: row.counts[name])
    by_otsu = Method(name, OTSU, 0.5, lambda row: row.otsu_counts[name])
    return max((fixed, by_otsu), key=lambda method: float(method.f1(rows).mean()) if rows else 0.0)


def everything() -> Method:
    """Every pixel flagged: what a mask is worth that says nothing."""
    return Method(ALL_FLAGGED, "-", 0.0, lambda row: row.counts[OURS])


def as_levels(soft: npt.NDArray[np.floating]) -> Levels:
    """A soft map 0..1 as levels 0..255."""
    return np.asarray(np.round(soft * 255.0), np.uint8)


def fitted_levels(levels: Levels, shape: tuple[int, ...]) -> Levels:
    """A soft mask at another shape (height, width), bilinear."""
    if levels.shape == shape:
        return levels
    return np.asarray(cv2.resize(levels, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def _cut(levels: Levels, truth: npt.NDArray[np.bool_]) -> metrics.Counts:
    return metrics.level_counts(np.where(otsu(levels), 255, 0).astype(np.uint8), truth)
