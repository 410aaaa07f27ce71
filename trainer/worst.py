"""Shows where the single-image path fails: `python -m trainer.worst --set DIR --out worst.png`.

In: sets of real forgeries or photographs to make forgeries from, as `trainer.evaluate_web_iml` takes them. Out: a
table of the worst, and a contact sheet, one row a picture: the upload, the true mask, ours. "Worst" are forgeries by
the F1 of their mask at the policy's threshold, authentic pictures by the share that is flagged. To be looked at before
anything is changed: what the figures cannot say is why.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_archive.handlers.analysis import Model, unconstrained_model
from model_archive.handlers.results import Analysis, SingleRequest
from services.core.pixels import open_image
from services.core.policy import DEFAULT_POLICY
from trainer import metrics
from trainer.single_cases import SingleItem, changed, generated_items, photographs, real_items
from trainer.single_measures import fitted_levels
from trainer.synthesis.photos import PhotoPool

SIDE = 240  # pixels of a picture on the sheet
WORST = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture and how badly it went: `loss` is 1 - F1 of a forgery, or the flagged share of an authentic picture."""

    name: str
    data: str
    edit: str
    forged: bool
    loss: float
    area: float
    flagged: float
    score: float


def failure(item: SingleItem, levels: np.ndarray, score: float) -> Failure:
    """How one picture went; `levels` [H,W] uint8 is its soft mask."""
    counts = metrics.level_counts(fitted_levels(levels, item.mask.shape), item.mask)
    threshold = DEFAULT_POLICY.mask_threshold
    flagged = float(metrics.flagged_by_level(counts)[metrics.level_at(threshold)])
    loss = 1.0 - metrics.scores_at(counts, threshold).f1 if item.forged else flagged
    return Failure(item.name, item.data, item.edit, item.forged, loss, float(item.mask.mean()), flagged, score)


def looked_at(
    model: Model[SingleRequest], items: Sequence[SingleItem], most: int, change: str, console: Console
) -> list[tuple[Failure, np.ndarray]]:
    """The worst pictures first, forgeries before authentic ones, with their rows of the sheet."""
    found: list[tuple[Failure, np.ndarray]] = []
    for item in track(items, "pictures", console=console):
        answer = model.analyse([SingleRequest(changed(item.upload, change))])[0]
        nothing = np.zeros(item.mask.shape, np.uint8)
        levels, score = (answer.mask, answer.score) if isinstance(answer, Analysis) else (nothing, 0.0)
        how = failure(item, levels, score)
        found.append((how, row(how, open_image(item.upload).rgb, item.mask, levels)))
        found.sort(key=lambda each: (not each[0].forged, -each[0].loss))
        forged = [each for each in found if each[0].forged]
        found = forged[:most] + found[len(forged) :][:most]
    return found


def row(how: Failure, rgb: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """A row of the sheet [SIDE,3*SIDE,3] uint8."""
    grey = [np.where(truth, 255, 0).astype(np.uint8), levels]
    cells = [cell(rgb), *(cell(np.repeat(each[..., None], 3, axis=2)) for each in grey)]
    words = f"{how.data} {how.name} {how.edit} loss {how.loss:.2f} score {how.score:.2f}"
    cv2.putText(cells[0], words[:60], (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (255, 255, 0), 1, cv2.LINE_AA)
    return np.hstack(cells)


def cell(rgb: np.ndarray) -> np.ndarray:
    """A picture fitted into a square, the rest dark."""
    scale = SIDE / max(rgb.shape[:2])
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    cell = np.full((SIDE, SIDE, 3), 40, np.uint8)
    cell[: size[1], : size[0]] = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cell


def sheet(rows: Sequence[np.ndarray], columns: int = 2) -> np.ndarray:
    """Rows beside and below one another, [.,.,3] uint8."""
    padded = [*rows, *[np.zeros_like(rows[0])] * (-len(rows) % columns)]
    return np.vstack([np.hstack(padded[place : place + columns]) for place in range(0, len(padded), columns)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.worst", description=__doc__)
    parser.add_argument("--set", type=Path, action="append", default=[], help="folder with a manifest.csv")
    parser.add_argument("--photos", type=Path, action="append", default=[], help="photographs to make forgeries from")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="label maps of them, same stems")
    parser.add_argument("--split", choices=("held_out", "test", "all"), default="held_out")
    parser.add_argument("--count", type=int, default=100, help="generated forgeries, and photographs (100 each)")
    parser.add_argument("--most", type=int, default=WORST, help=f"to show, of forgeries and of authentic ({WORST})")
    parser.add_argument("--change", default="clean", help="what happens to pictures before (nothing)")
    parser.add_argument("--weights", type=Path, help="folder of other weights than the shipped ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the contact sheet here (PNG)")
    parser.add_argument("--json", action="store_true", help="one JSON object a picture instead of a table")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    items = [item for folder in options.set for item in real_items(folder)]
    if options.photos:
        pool = PhotoPool.scan(options.photos, options.outlines, split=options.split)
        items += generated_items(pool, options.count, seed=SEED, twins=False)
        items += photographs(pool.photos[: options.count])
    if not items:
        parser.error("nothing to look at: give --set or --photos")
    model = unconstrained_model(options.weights)
    found = looked_at(model, items, options.most, options.change, Console(stderr=True))
    if options.out:
        pixels = sheet([drawn for _, drawn in found])
        cv2.imwrite(str(options.out), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if options.json:
        print("\n".join(json.dumps(asdict(how)) for how, _ in found))
        return 0
    table = Table("picture", "set", "edit", "loss", "forged area", "flagged", "score")
    for how, _ in found:
        shares = (f"{how.loss:.2f}", f"{how.area:.1%}", f"{how.flagged:.1%}", f"{how.score:.2f}")
        table.add_row(how.name, how.data, how.edit, *shares)
    Console().print(table)
    return 0


SEED = 20261127
"""Of the generated pictures: none of them is in the evaluation's frozen set."""


if __name__ == "__main__":
    raise SystemExit(main())
