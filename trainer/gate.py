"""The gate: `python -m trainer.gate --champion A.safetensors --challenger B.safetensors --set DIR --out report/`.

In: two files of weights of the single-image network, frozen sets of real forgeries, and photographs that nothing was
fitted on (as `trainer.evaluate_web_iml` takes them). Out: `report.json`, `report.md` and `report.html` in a folder, and
the verdict as exit status: 0 where the challenger passes, 3 where it is refused. Both models look at the same pictures
in turns, so that a busy machine slows both; what they must keep to is in `gate_checks`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from model_archive import weights
from model_archive.handlers import single
from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import Analysis, SingleRequest
from services.core.errors import Broken, Rejected
from services.core.pixels import open_image
from services.core.policy import DEFAULT_POLICY
from trainer import gate_page, metrics
from trainer.gate_checks import CLEAN, Compared, Look, Report, Rules, checks
from trainer.runs import this_run
from trainer.single_cases import CHANGES, SingleItem, changed, digest, generated_items, photographs, real_items
from trainer.single_measures import fitted_levels
from trainer.synthesis.photos import PhotoPool
from trainer.worst import cell

REFUSED = 3
COUNT, PHOTOS = 150, 120
SHOWN = 6
BESIDE = ("JPEG 80",)
"""What happens to pictures, beside nothing, unless `--change` says something else: what every platform does."""

Models = tuple[Model[SingleRequest], Model[SingleRequest]]


def gated(files: tuple[Path, Path], items: Sequence[SingleItem], changes: Sequence[str], rules: Rules) -> Report:
    """The verdict on a challenger; `files` are the champion's weights and the challenger's. Raises Broken where one
    holds no weights of the single-image network."""
    models = loaded(files[0]), loaded(files[1])
    rows = tuple(compared(models, items, changes))
    found = tuple(checks(rows, (files[0].stat().st_size, files[1].stat().st_size), rules))
    return Report(
        passed=all(check.passed for check in found),
        checks=found,
        rules=rules,
        champion=models[0].version,
        challenger=models[1].version,
        pictures_sha256=digest(items),
        setting=this_run("trainer.gate", sys.argv[1:], version=models[1].version, threads=torch.get_num_threads()),
        rows=rows,
    )


def loaded(path: Path) -> Model[SingleRequest]:
    """The single-image model with the weights of a file. Raises Broken."""
    found = weights.load(path)
    if found.card.network != single.NETWORK:
        raise Broken(f"{path} holds weights of {found.card.network}; the gate compares those of {single.NETWORK}")
    return replace(unconstrained_model(), networks={single.NETWORK: found})


def compared(models: Models, items: Sequence[SingleItem], changes: Sequence[str]) -> Iterator[Compared]:
    """Every picture after every change, in order, with a progress bar; the models begin in turns."""
    works = [(item, change) for change in changes for item in items]
    for model in models:
        model.analyse([SingleRequest(items[0].upload)])  # a first look is slow, and would count as a model's own time
    for place, (item, change) in enumerate(track(works, "pictures", console=Console(stderr=True))):
        looks = {which: look(models[which], item, change)[0] for which in ((0, 1) if place % 2 else (1, 0))}
        area = float(item.mask.mean())
        yield Compared(item.name, item.data, item.edit, change, item.forged, area, looks[0], looks[1])


def look(model: Model[SingleRequest], item: SingleItem, change: str) -> tuple[Look, np.ndarray]:
    """What a model makes of a picture, and its soft mask [H,W] uint8 at the truth's size."""
    try:
        answer = model.analyse([SingleRequest(changed(item.upload, change))])[0]
    except Rejected:
        answer = None
    good = answer if isinstance(answer, Analysis) else None
    levels = np.zeros(item.mask.shape, np.uint8) if good is None else fitted_levels(good.mask, item.mask.shape)
    counts = metrics.level_counts(levels, item.mask)
    threshold = DEFAULT_POLICY.mask_threshold
    f1 = metrics.scores_at(counts, threshold).f1 if item.forged else float("nan")
    flagged = float(metrics.flagged_by_level(counts)[metrics.level_at(threshold)])
    if good is None:
        return Look(f1, flagged, 0.0, 0.0, failed=True), levels
    return Look(f1, flagged, good.score, good.seconds), levels


def most_different(rows: Sequence[Compared], most: int) -> list[Compared]:
    """The clean pictures on which the two models differ most, by F1 or, of authentic ones, by the flagged share."""

    def apart(row: Compared) -> float:
        return abs(row.gain) if row.forged else abs(row.challenger.flagged - row.champion.flagged)

    return sorted(
        (row for row in rows if row.change == CLEAN and not (row.champion.failed and row.challenger.failed)),
        key=apart,
        reverse=True,
    )[:most]


def strip(models: Models, item: SingleItem) -> np.ndarray:
    """Picture, truth, and both masks side by side, [S,4*S,3] uint8."""
    masks = [np.where(item.mask, 255, 0).astype(np.uint8), *(look(model, item, CLEAN)[1] for model in models)]
    return np.hstack([cell(open_image(item.upload).rgb), *(cell(np.repeat(m[..., None], 3, axis=2)) for m in masks)])


def write(report: Report, files: tuple[Path, Path], items: Sequence[SingleItem], out: Path) -> None:
    """The three files of a report, the verdict last: where it is, the others are."""
    models = loaded(files[0]), loaded(files[1])
    by_name = {(item.data, item.name, item.forged): item for item in items}
    shown = [
        gate_page.Shown(row, strip(models, by_name[row.data, row.name, row.forged]))
        for row in most_different(report.rows, SHOWN)
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(gate_page.html(report, shown), encoding="utf-8")
    (out / "report.md").write_text(gate_page.markdown(report), encoding="utf-8")
    unfinished = out / ".report.json"
    unfinished.write_text(report.to_json(), encoding="utf-8")
    unfinished.replace(out / "report.json")


def gathered(options: argparse.Namespace) -> list[SingleItem]:
    """The pictures that were asked for, always the same for the same options."""
    items = [item for folder in options.set for item in real_items(folder)]
    if options.photos:
        pool = PhotoPool.scan(options.photos, options.outlines, split=options.split)
        items += [*generated_items(pool, options.count), *photographs(pool.photos[: options.photographs])]
    return items


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    items = gathered(options)
    if not items:
        parser.error("nothing to compare on: give --set or --photos")
    changes = [CLEAN, *(change for change in CHANGES[1:] if change in (options.change or BESIDE))]
    files = options.champion, options.challenger
    report = gated(files, items, changes, Rules())
    write(report, files, items, options.out)
    if options.json:
        print(json.dumps({"verdict": report.verdict, "checks": [*map(asdict, report.checks)]}))
    else:
        table = Table("check", "passed", "why")
        for check in report.checks:
            table.add_row(check.name, "yes" if check.passed else "NO", escape(check.reason))
        Console().print(table, f"{report.challenger}: {'passes' if report.passed else 'is refused'}")
    return 0 if report.passed else REFUSED


def _parser() -> argparse.ArgumentParser:
    example = "example: python -m trainer.gate --champion web_iml.safetensors --challenger fitted.safetensors"
    parser = argparse.ArgumentParser(
        prog="python -m trainer.gate", description=__doc__, epilog=f"{example} --photos photos/ --out report/"
    )
    parser.add_argument("--champion", type=Path, required=True, help="weights that serve")
    parser.add_argument("--challenger", type=Path, required=True, help="weights that want to")
    parser.add_argument("--set", type=Path, action="append", default=[], help="folder with a manifest.csv of forgeries")
    parser.add_argument("--photos", type=Path, action="append", default=[], help="photographs to make forgeries from")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--split", choices=("test", "held_out", "all"), default="test", help="which of the photographs")
    parser.add_argument("--count", type=int, default=COUNT, help=f"generated forgeries ({COUNT}), with as many twins")
    parser.add_argument("--photographs", type=int, default=PHOTOS, help=f"authentic photographs at most ({PHOTOS})")
    parser.add_argument(
        "--change", choices=CHANGES, action="append", help=f"what happens to pictures, beside nothing ({BESIDE[0]})"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of both models (1)")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.html, report.md and report.json")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON instead of a table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
