"""Measures the shipped models on real forgeries: `python -m trainer.evaluate --set DIR`.

In: folders with a `manifest.csv` (columns forged, mask, original, paths relative to it). Out: tables, and JSON with
`--json`. Runs the very models that serve, at the thresholds that ship; nothing is tuned here. Authentic pictures are
the originals; the pair model's authentic pairs are originals against saved copies of themselves.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from model_archive.card import Card
from model_archive.handlers.analysis import constrained_model, unconstrained_model
from model_archive.handlers.results import Analysis, ItemError, PairRequest, SingleRequest
from services.core.errors import Broken
from services.core.learn.qes import qes
from trainer import metrics

COPIES: tuple[tuple[float, int], ...] = ((1.0, 90), (1.0, 60), (0.6, 80))
"""(scale, JPEG quality) of the unedited copies that the pair model must find nothing in."""

FLAGGED = 0.5
ALARM_SHARE = 0.005  # an authentic picture with more than this share flagged is a false alarm


@dataclass(frozen=True, slots=True)
class Case:
    """A forgery of a set: files of the forged picture, its mask and, where known, its original."""

    forged: Path
    mask: Path
    original: Path | None


@dataclass(frozen=True, slots=True)
class Report:
    """Numbers of one model on one set. Pixel metrics are means over forged pictures at 0.5; interval is F1's, 95 %.

    `flagged_authentic` is the mean share of pixels flagged on authentic inputs, `alarms_authentic` the share of those
    of which more than 0.5 % is flagged. `..._at_fpr_1` and `..._at_fpr_5` use the thresholds that ship with the
    weights: what 1 % and 5 % of generated authentic pictures exceed.
    """

    model: str
    version: str
    data: str
    forged: int
    authentic: int
    failed: int
    f1: float
    f1_low: float
    f1_high: float
    iou: float
    precision: float
    recall: float
    image_auc: float
    tpr_at_fpr_1: float
    fpr_at_fpr_1: float
    tpr_at_fpr_5: float
    fpr_at_fpr_5: float
    flagged_authentic: float
    alarms_authentic: float
    qes_forged: float
    seconds: float


def cases(folder: Path) -> list[Case]:
    """The forgeries that a set's manifest lists."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Case(folder / r["forged"], folder / r["mask"], folder / r["original"] if r["original"] else None) for r in rows
    ]


def evaluate_unconstrained(folder: Path, disturb: Callable[[bytes], bytes]) -> Report:
    """The single-image model on a set, each picture after `disturb`."""
    model = unconstrained_model()
    found = cases(folder)
    forged = [(model.analyse([SingleRequest(disturb(c.forged.read_bytes()))])[0], c.mask) for c in found]
    originals = sorted({c.original for c in found if c.original is not None})
    authentic = [model.analyse([SingleRequest(disturb(path.read_bytes()))])[0] for path in originals]
    return report(folder.name, model.loaded.card, forged, authentic)


def evaluate_constrained(folder: Path, disturb: Callable[[bytes], bytes]) -> Report:
    """The pair model on the cases of a set that have an original; the upload's side after `disturb`."""
    model = constrained_model()
    found = [(c, c.original.read_bytes()) for c in cases(folder) if c.original is not None]
    forged = [
        (model.analyse([PairRequest(disturb(case.forged.read_bytes()), original)])[0], case.mask)
        for case, original in found
    ]
    authentic = [
        model.analyse([PairRequest(copied(original, scale, quality), original)])[0]
        for original in dict.fromkeys(original for _, original in found)
        for scale, quality in COPIES
    ]
    return report(folder.name, model.loaded.card, forged, authentic)


def report(
    data: str,
    card: Card,
    forged: Sequence[tuple[Analysis | ItemError, Path]],
    authentic: Sequence[Analysis | ItemError],
) -> Report:
    """The numbers of one run. An item that failed counts as missed, never as left out. Raises Broken if all failed."""
    good = [a for a in (*(answer for answer, _ in forged), *authentic) if isinstance(a, Analysis)]
    if not good:
        raise Broken(f"no picture of {data} could be analysed")
    pixel = [_scores(answer, mask) for answer, mask in forged]
    positive = np.array([_score(answer) for answer, _ in forged])
    negative = np.array([_score(answer) for answer in authentic])
    areas = [float((a.mask >= FLAGGED * 255).mean()) for a in authentic if isinstance(a, Analysis)]
    low, high = metrics.interval(np.array([p.f1 for p in pixel]))
    truth = np.concatenate([np.ones(len(positive), bool), np.zeros(len(negative), bool)])

    def rounded(value: float | np.floating) -> float:
        return round(float(value), 4)

    def mean(values: Sequence[float]) -> float:
        return rounded(np.mean(values)) if values else 0.0

    return Report(
        model=good[0].model,
        version=good[0].version,
        data=data,
        forged=len(forged),
        authentic=len(authentic),
        failed=len(forged) + len(authentic) - len(good),
        f1=mean([p.f1 for p in pixel]),
        f1_low=rounded(low),
        f1_high=rounded(high),
        iou=mean([p.iou for p in pixel]),
        precision=mean([p.precision for p in pixel]),
        recall=mean([p.recall for p in pixel]),
        image_auc=rounded(metrics.auc(np.concatenate([positive, negative]), truth)),
        tpr_at_fpr_1=rounded((positive > card.score_at_fpr_1).mean()),
        fpr_at_fpr_1=rounded((negative > card.score_at_fpr_1).mean()),
        tpr_at_fpr_5=rounded((positive > card.score_at_fpr_5).mean()),
        fpr_at_fpr_5=rounded((negative > card.score_at_fpr_5).mean()),
        flagged_authentic=mean(areas),
        alarms_authentic=mean([float(area > ALARM_SHARE) for area in areas]),
        qes_forged=mean([qes(a.mask) for a, _ in forged if isinstance(a, Analysis)]),
        seconds=mean([a.seconds for a in good]),
    )


def copied(data: bytes, scale: float, quality: int) -> bytes:
    """An unedited copy of an image file: resized, saved as JPEG."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise Broken("an original of the set is not a picture that OpenCV can read")
    if scale != 1.0:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


DISTURBED: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "jpeg80": lambda data: copied(data, 1.0, 80),
    "jpeg50": lambda data: copied(data, 1.0, 50),
    "half": lambda data: copied(data, 0.5, 90),
}
"""What may happen to uploads before they are measured."""

EVALUATIONS = {"unconstrained": evaluate_unconstrained, "constrained": evaluate_constrained}


def _scores(answer: Analysis | ItemError, mask: Path) -> metrics.MaskScores:
    truth = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    if truth is None:
        raise Broken(f"{mask} is not a mask that OpenCV can read")
    if isinstance(answer, ItemError):
        return metrics.MaskScores(0.0, 0.0, 0.0, 0.0)
    found = cv2.resize(answer.mask, (truth.shape[1], truth.shape[0]), interpolation=cv2.INTER_LINEAR)
    return metrics.mask_scores(found.astype(np.float32) / 255.0, np.asarray(truth > 127), FLAGGED)


def _score(answer: Analysis | ItemError) -> float:
    return answer.score if isinstance(answer, Analysis) else 0.0


def printed(reports: Sequence[tuple[str, Report]], console: Console) -> None:
    """The reports as one table."""
    columns = ("model", "data", "uploads", "forged", "authentic", "F1", "95 %", "IoU", "precision", "recall")
    more = ("AUC", "TPR 1", "FPR 1", "TPR 5", "FPR 5", "flagged", "alarms", "QES", "s")
    table = Table(*columns, *more)
    for disturbance, r in reports:
        shares = (r.iou, r.precision, r.recall, r.image_auc)
        rates = (r.tpr_at_fpr_1, r.fpr_at_fpr_1, r.tpr_at_fpr_5, r.fpr_at_fpr_5)
        rest = (r.flagged_authentic, r.alarms_authentic, r.qes_forged, r.seconds)
        span = f"{r.f1_low:.2f}-{r.f1_high:.2f}"
        head = (r.model, r.data, disturbance, str(r.forged), str(r.authentic), f"{r.f1:.3f}", span)
        table.add_row(*head, *(f"{value:.3f}" for value in (*shares, *rates, *rest)))
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate", description=__doc__)
    parser.add_argument("models", nargs="*", default=sorted(EVALUATIONS), help="constrained, unconstrained (both)")
    parser.add_argument("--set", type=Path, action="append", required=True, help="folder with a manifest.csv")
    parser.add_argument("--uploads", choices=sorted(DISTURBED), action="append", help="disturb uploads first (none)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    options = parser.parse_args(arguments)
    unknown = set(options.models) - set(EVALUATIONS)
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    torch.set_num_threads(options.threads)
    runs = product(options.models, options.set, options.uploads or ["none"])
    reports = []
    for model, folder, disturbance in runs:
        measured = EVALUATIONS[model](folder, DISTURBED[disturbance])
        reports.append((disturbance, measured))
        if options.json:
            print(json.dumps({"uploads": disturbance, **asdict(measured)}), flush=True)
    if options.json:
        return 0
    console = Console(width=210)
    printed(reports, console)
    versions = ", ".join(sorted({f"{r.model} {r.version}" for _, r in reports}))
    console.print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {options.threads} thread(s); {versions}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
