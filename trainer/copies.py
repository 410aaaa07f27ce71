"""How often copies within a picture are found, and how often there are none: `python -m trainer.copies --photos DIR`.

In: folders of photographs (the split `fit`: nothing that is published is measured here). Out: a table of authentic
photographs as they are on disk, generated copies, and which of the two places was told to be the copy. `--fit` prints
the weights of the cues that tell them apart, anew.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services.core import copy_move
from services.core.copy_move import Copy
from trainer.synthesis import disturbances, edits, samples
from trainer.synthesis.photos import PhotoPool, Split, read_rgb

SIDE = 384
SHARES = (0.006, 0.2)  # of the picture that a generated copy covers
OVERLAP = 0.6  # of a place that must be the true copy for it to be called right


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts of one run, and the cues [N,3] of the found copies, second place minus first, with which was true [N]."""

    photographs: int
    alarms: int
    copies: int
    found: int
    told: int
    told_right: int
    cues: np.ndarray
    second: np.ndarray


def measured(pool: PhotoPool, *, photographs: int, copies: int, seed: int, console: Console | None = None) -> Rates:
    """Looks for copies in authentic photographs and in generated forgeries."""
    chosen = np.random.default_rng(seed).permutation(len(pool.photos))[:photographs]
    shown = console or Console(quiet=True)
    alarms = sum(
        bool(copy_move.copies(read_rgb(pool.photos[index].path))) for index in track(chosen, "authentic", console=shown)
    )
    found = told = right = 0
    cues, second = [], []
    for index in track(range(copies), "copies", console=shown):
        picture, mask = forged(pool, seed, index)
        for copy in copy_move.copies(picture):
            shares = [float(mask[place].mean()) if place.any() else 0.0 for place in (copy.first, copy.second)]
            if max(shares) < OVERLAP or min(shares) > OVERLAP / 2:
                continue
            found += 1
            cues.append(_cues(picture, copy))
            second.append(shares[1] > shares[0])
            if max(copy.second_chance, 1 - copy.second_chance) >= copy_move.TOLD_APART:
                told += 1
                right += (copy.second_chance > 0.5) == second[-1]
            break
    return Rates(len(chosen), alarms, copies, found, told, right, np.array(cues), np.array(second))


def forged(pool: PhotoPool, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A generated picture [S,S,3] uint8 with a copy, saved as it would reach us, and the copy's mask [S,S] bool."""
    rng = np.random.default_rng((seed, 8, index))
    host = samples.camera_scene(pool, rng, SIDE)
    for _ in range(6):
        edit = edits.copy_move(rng, host, host)
        if SHARES[0] < edit.mask.mean() < SHARES[1]:
            break
    picture, _ = disturbances.file(rng).save(edit.picture)
    return picture, edit.mask


def cue_weights(rates: Rates, *, pull: float = 1.0) -> np.ndarray:
    """[3] weights of a logistic regression without a constant (either place may be first), by Newton's method."""
    spread = rates.cues.std(0) + 1e-9
    design = np.clip(rates.cues / spread, -3.0, 3.0)
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        chance = 1.0 / (1.0 + np.exp(-design @ weights))
        slope = design.T @ (chance - rates.second) + pull * weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + pull * np.eye(len(weights))
        weights = weights - np.linalg.solve(curvature, slope)
    return np.asarray(weights / spread)


def _cues(picture: np.ndarray, copy: Copy) -> np.ndarray:
    return copy_move.place_cues(picture, copy.second) - copy_move.place_cues(picture, copy.first)


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.copies", description=__doc__)
    parser.add_argument(
        "--photos", type=Path, action="append", help="folder of photographs (default: samples/originals)"
    )
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="folder of label maps, same stems")
    parser.add_argument("--split", choices=("fit", "held_out", "test", "all"), default="fit")
    parser.add_argument("--photographs", type=int, default=200, help="authentic photographs to look at")
    parser.add_argument("--copies", type=int, default=200, help="generated forgeries to look at")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fit", action="store_true", help="print the weights of the cues, fitted on these copies")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    split: Split = options.split
    pool = PhotoPool.scan(options.photos or [Path("samples/originals")], options.outlines, split=split)
    console = Console()
    rates = measured(
        pool, photographs=options.photographs, copies=options.copies, seed=options.seed, console=Console(stderr=True)
    )
    table = Table("", "count", "of")
    table.add_row("authentic photographs with a copy", str(rates.alarms), str(rates.photographs))
    table.add_row("generated copies found", str(rates.found), str(rates.copies))
    table.add_row("of these, one place alone called the copy", str(rates.told), str(rates.found))
    table.add_row("of these, rightly", str(rates.told_right), str(rates.told))
    console.print(table)
    if options.fit and rates.found:
        console.print(f"weights of the cues: {np.round(cue_weights(rates), 2).tolist()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
