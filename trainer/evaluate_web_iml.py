"""Measures the single-image path: `python -m trainer.evaluate_web_iml --set DIR --photos DIR --out docs/...md`.

In: sets of real forgeries, and photographs that nothing was fitted on (see `single_cases`). Out: a page of tables, or
JSON lines with `--json`, one a picture and change. Runs the model that serves on encoded files, at the thresholds of
the policy that ships, beside three handcrafted baselines; nothing of ours is tuned here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import torch
from rich.console import Console
from rich.progress import Progress

from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import SingleRequest
from trainer import web_iml_page
from trainer.runs import deliver, this_run
from trainer.single_baselines import BASELINES
from trainer.single_cases import (
    CALIBRATION_SEED,
    CHANGES,
    SingleItem,
    digest,
    generated_items,
    photographs,
    real_items,
)
from trainer.single_measures import Measured, calibrated_thresholds, measured, ours
from trainer.synthesis.photos import PhotoPool

COUNT, CALIBRATED, PHOTOS = 150, 100, 120
QUICK = 2
UNCALIBRATED = 0.5  # a baseline's threshold where there are no photographs to choose one on


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of one process: a picture and a change."""

    item: SingleItem
    change: str


def run(
    folder: Path | None,
    items: Sequence[SingleItem],
    changes: Sequence[str],
    console: Console,
    *,
    workers: int = 1,
    threads: int = 1,
) -> Iterator[Measured]:
    """Every picture after every change, in order, with a progress bar; by so many processes of so many threads. All of
    the first change comes first, so that a run that is ended early has measured whole sets."""
    works = (Work(item, change) for change in changes for item in items)
    with Progress(console=console) as bar:
        task = bar.add_task("pictures", total=len(items) * len(changes))
        done = partial(_done, folder)
        if workers == 1:
            _begin(threads)
            for work in works:
                yield done(work)
                bar.advance(task)
            return
        with get_context("spawn").Pool(workers, _begin, (threads,)) as pool:
            for row in pool.imap(done, works):
                yield row
                bar.advance(task)


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


@cache
def _model(folder: Path | None) -> Model[SingleRequest]:
    """This process's model."""
    return unconstrained_model(folder)


def _done(folder: Path | None, work: Work) -> Measured:
    return measured(_model(folder), work.item, work.change)


def line(row: Measured) -> str:
    """What is known of one picture after one change, as JSON."""
    scores = ours().scores(row)
    values = {
        "name": row.name,
        "data": row.data,
        "edit": row.edit,
        "change": row.change,
        "forged": row.forged,
        "area": row.area,
        "score": row.score,
        "failed": row.failed,
        "seconds": row.seconds,
        "flagged": float(ours().flagged([row])[0]),
    }
    if row.forged:
        values |= {"f1": scores.f1, "iou": scores.iou, "precision": scores.precision, "recall": scores.recall}
    return json.dumps(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    console = Console(stderr=True)
    items: list[SingleItem] = [item for folder in options.set for item in real_items(folder)]
    thresholds, mark = dict.fromkeys(BASELINES, UNCALIBRATED), ""
    if options.photos:
        pool = PhotoPool.scan(options.photos, options.outlines, split=options.split)
        made = list(generated_items(pool, QUICK if options.quick else options.count))
        mark = digest(made)
        items += [*made, *photographs(pool.photos[: QUICK if options.quick else options.photographs])]
        kept = PhotoPool.scan(options.photos, options.outlines, split="held_out")
        count = QUICK if options.quick else CALIBRATED
        calibration = generated_items(kept, count, seed=CALIBRATION_SEED, twins=False)
        thresholds = calibrated_thresholds(list(calibration))
    if not items:
        parser.error("nothing to measure: give --set or --photos")
    version = unconstrained_model(options.weights).version
    changes = ["clean", *(change for change in CHANGES[1:] if change in (options.change or CHANGES))]
    rows = run(options.weights, items, changes, console, workers=options.workers, threads=options.threads)
    if options.json:
        for row in rows:
            print(line(row), flush=True)
        return 0
    said = this_run("trainer.evaluate_web_iml", given, version=version, threads=options.threads)
    deliver(web_iml_page.page(list(rows), thresholds, said, mark), options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluate_web_iml", description=__doc__)
    parser.add_argument(
        "--set", type=Path, action="append", default=[], help="folder with a manifest.csv of real forgeries"
    )
    parser.add_argument("--photos", type=Path, action="append", default=[], help="photographs to make forgeries from")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--split", choices=("test", "held_out", "all"), default="test", help="which of the photographs")
    parser.add_argument("--count", type=int, default=COUNT, help=f"generated forgeries ({COUNT}), with as many twins")
    parser.add_argument("--photographs", type=int, default=PHOTOS, help=f"authentic photographs at most ({PHOTOS})")
    parser.add_argument(
        "--change", choices=CHANGES, action="append", help="what happens to pictures, beside nothing (default: all)"
    )
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process (1)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1); each holds a model of its own")
    parser.add_argument("--quick", action="store_true", help="a few generated pictures only: does it work?")
    parser.add_argument("--out", type=Path, help="write the page here (default: stdout)")
    parser.add_argument("--json", action="store_true", help="one JSON object a picture and change instead of the page")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
