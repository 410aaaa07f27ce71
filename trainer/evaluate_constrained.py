"""Measures the constrained path: `python -m trainer.evaluate_constrained --set DIR --photos DIR --out docs/...md`.

In: real pairs, and photographs that nothing was fitted on (see `pair_cases`). Out: a page of tables, or JSON lines with
`--json`, one a pair. Runs the model that serves, at the thresholds of the policy that ships, beside two baselines;
nothing is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress

from model_archive.handlers.analysis import Model, constrained_model
from model_archive.handlers.results import Analysis, PairRequest
from services.core.errors import Broken
from services.core.events import Candidate, ModelVersion
from services.core.judge.mask import describe
from services.core.judge.route import Compare
from services.core.judge.verdict import Finding, decide
from services.core.pixels import open_image
from services.core.policy import DEFAULT_POLICY
from trainer import baselines, constrained_page, metrics
from trainer.pair_cases import PairItem, generated_pairs, real_pairs
from trainer.runs import deliver, this_run
from trainer.sets import fitted
from trainer.synthesis.pairs import Kind
from trainer.synthesis.photos import PhotoPool

SEED = 20261124
TEXTURE_SIGMA = 2.0  # pixels; what is finer than this is texture
TEXTURE_RIM = 4  # pixels inside of an outline that show the edge of the paste and not the object
COUNTS: dict[Kind, int] = {"spg": 240, "sdg": 120, "unrelated": 120}
QUICK: dict[Kind, int] = {"spg": 6, "sdg": 3, "unrelated": 3}


@dataclass(frozen=True, slots=True)
class Measured:
    """One pair's figures. IoU, F1, precision and recall are of masks at the policy's threshold.

    `flagged` is the share that is flagged, `area` the truth's; `texture` of what is forged is in grey levels (see
    `texture`); `original_iou` is that of the object in the original, where one was taken; `plain_...` and
    `aligned_...` are the baselines'.
    """

    name: str
    data: str
    kind: Kind | None
    edit: str
    change: str
    unedited: bool
    area: float
    texture: float
    found: str
    iou: float
    f1: float
    precision: float
    recall: float
    original_iou: float | None
    plain_iou: float
    aligned_iou: float
    flagged: float
    plain_flagged: float
    aligned_flagged: float
    qes: float
    score: float
    decision: str
    seconds: float


def measured(model: Model[PairRequest], item: PairItem) -> Measured:
    """One pair, analysed. Raises Broken where it cannot be: no pair may be left out."""
    answer = model.analyse([PairRequest(item.upload, item.original)])[0]
    if not isinstance(answer, Analysis):
        raise Broken(f"{item.data} {item.name}: {answer.message}")
    upload, original = (open_image(data).rgb for data in (item.upload, item.original))
    truth = fitted(item.mask, upload.shape[:2])
    ours = metrics.mask_scores(answer.mask / 255.0, truth, DEFAULT_POLICY.mask_threshold)
    plain = baselines.resized_difference(upload, original)
    aligned = baselines.aligned_difference(upload, original)
    taken = None
    if item.original_mask is not None:
        mask = np.zeros(item.original_mask.shape, np.uint8) if answer.original_mask is None else answer.original_mask
        taken = metrics.mask_scores(mask / 255.0, item.original_mask, DEFAULT_POLICY.mask_threshold).iou
    return Measured(
        name=item.name,
        data=item.data,
        kind=item.kind,
        edit=item.edit,
        change=item.change,
        unedited=item.unedited,
        area=float(truth.mean()),
        texture=texture(upload, truth),
        found=str(answer.kind),
        iou=ours.iou,
        f1=ours.f1,
        precision=ours.precision,
        recall=ours.recall,
        original_iou=taken,
        plain_iou=metrics.mask_scores(plain.astype(float), truth).iou,
        aligned_iou=metrics.mask_scores(aligned.astype(float), truth).iou,
        flagged=float((answer.mask >= DEFAULT_POLICY.mask_threshold * 255).mean()),
        plain_flagged=float(plain.mean()),
        aligned_flagged=float(aligned.mean()),
        qes=answer.qes,
        score=answer.score,
        decision=_decision(answer),
        seconds=answer.seconds,
    )


def texture(picture: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float:
    """How much fine detail a place [H,W] bool of a picture [H,W,3] uint8 has inside of its outline: the mean distance
    of its grey levels from those of the same picture made soft. Local features need some; clear sky has none."""
    kernel = np.ones((2 * TEXTURE_RIM + 1, 2 * TEXTURE_RIM + 1), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), TEXTURE_SIGMA))
    return float(detail[inner].mean()) if inner.any() else 0.0


def _decision(answer: Analysis) -> str:
    """What the verdict would say, were the original a trusted one."""
    if answer.kind == "unrelated":
        return "unrelated"
    mask = describe(answer.mask, threshold=DEFAULT_POLICY.mask_threshold, qes=answer.qes, object_key="mask")
    model = ModelVersion(name=answer.model, version=answer.version)
    finding = Finding(model=model, score=answer.score, mask=mask, kind=answer.kind)
    return decide(Compare(_TRUSTED, both=False), finding, None, DEFAULT_POLICY).decision.value


_TRUSTED = Candidate(
    original_id="original",
    sha256="0" * 64,
    object_key="original",
    trusted=True,
    source="evaluation",
    registered_at=datetime(2026, 1, 1, tzinfo=UTC),
    distance=0,
    inliers=0,
    overlap=1.0,
)


def run(model: Model[PairRequest], items: Iterable[PairItem], total: int, console: Console) -> list[Measured]:
    """Every pair, one after the other, with a progress bar."""
    found = []
    with Progress(console=console) as bar:
        task = bar.add_task("pairs", total=total)
        for item in items:
            found.append(measured(model, item))
            bar.advance(task)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate_constrained", description=__doc__)
    parser.add_argument(
        "--set", type=Path, action="append", default=[], help="folder with a manifest.csv of real pairs"
    )
    parser.add_argument("--photos", type=Path, action="append", default=[], help="photographs to generate pairs from")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--split", choices=("test", "held_out", "all"), default="test", help="which of the photographs")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--flips", action="store_true", help="test-time augmentation, as when annotating")
    parser.add_argument("--max-side", type=int, default=1024, help="pixels at which pictures are analysed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a dozen generated pairs only: does it work?")
    parser.add_argument("--out", type=Path, help="write the page here (default: stdout)")
    parser.add_argument("--json", action="store_true", help="one JSON object a pair instead of the page")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    counts = QUICK if options.quick else COUNTS
    items: list[PairItem] = [item for folder in options.set for item in real_pairs(folder)]
    if options.photos:
        pool = PhotoPool.scan(options.photos, options.outlines, split=options.split)
        items += generated_pairs(pool, SEED, counts)
    if not items:
        parser.error("nothing to measure: give --set or --photos")
    model = constrained_model(options.weights, max_side=options.max_side, flips=options.flips)
    rows = run(model, items, len(items), Console(stderr=True))
    if options.json:
        print("\n".join(json.dumps(asdict(row)) for row in rows))
        return 0
    said = this_run("trainer.evaluate_constrained", given, version=model.version, threads=options.threads)
    deliver(constrained_page.page(rows, said), options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
