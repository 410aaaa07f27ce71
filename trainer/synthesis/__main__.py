"""Generated samples, to look at or to time: `python -m trainer.synthesis --photos DIR --sheet out.png` or `--rate`.

The sheet's top half: single pictures as forgery, mask, authentic twin. Bottom half: pairs as forged, original, mask.
The rate: samples a second that one core makes for each network, input and target, as a fit is fed with them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from trainer.synthesis import samples
from trainer.synthesis.photos import PhotoPool


def main(arguments: list[str] | None = None) -> int:
    """Draws the sheet and prints where it is, or prints the rates. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.synthesis", description=__doc__)
    parser.add_argument("--photos", type=Path, action="append", help="folder of photographs (default: samples/)")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="folder of label maps, same stems")
    parser.add_argument("--sheet", type=Path, help="PNG to write")
    parser.add_argument("--rate", action="store_true", help="print samples a second and core for each network")
    parser.add_argument("--samples", type=int, default=100, help="samples of each network that are timed")
    parser.add_argument("--rows", type=int, default=6, help="samples per column of the sheet")
    parser.add_argument("--size", type=int, default=256, help="side of a sample in pixels")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.sheet is None and not options.rate:
        parser.error("give --sheet PNG to look at samples, or --rate to time them")
    pool = PhotoPool.scan(options.photos or [Path("samples")], options.outlines, split="all")
    if options.rate:
        print(f"samples/s on one core, {options.size} x {options.size} pixels, {len(pool.photos)} photographs")
        for name, rate in rates(pool, options.seed, options.samples, options.size).items():
            print(f"{name:<12} {rate:8.1f}")
    if options.sheet is None:
        return 0
    cv2.imwrite(
        str(options.sheet), cv2.cvtColor(sheet(pool, options.seed, options.rows, options.size), cv2.COLOR_RGB2BGR)
    )
    print(f"{options.sheet}: {options.rows * 4} samples of {len(pool.photos)} photographs, seed {options.seed}")
    return 0


def rates(pool: PhotoPool, seed: int, count: int, size: int) -> dict[str, float]:
    """Samples a second of processor time by network, over `count` samples each, on one thread.

    Processor time rather than the clock's, so that what else the machine does counts as little as it can.
    """
    from trainer.data import EXAMPLES

    cv2.setNumThreads(1)
    found = {}
    makers = {
        example: name for name, example in sorted(EXAMPLES.items(), reverse=True)
    }  # sizes of one network share one
    for example, name in sorted(makers.items(), key=lambda each: each[1]):
        example(pool, seed, 0, size)  # what only the first one pays for
        started = time.process_time()
        for index in range(count):
            example(pool, seed, index, size)
        found[name] = count / max(time.process_time() - started, 1e-9)
    return found


def sheet(pool: PhotoPool, seed: int, rows: int, size: int) -> np.ndarray:
    """The contact sheet, [H,W,3] uint8: two samples side by side in each row."""
    singles = [_single_row(pool, seed, 2 * i, size) for i in range(2 * rows)]
    pairs = [_pair_row(pool, seed, i, size) for i in range(2 * rows)]
    strips = singles + pairs
    return np.vstack([np.hstack(strips[i : i + 2]) for i in range(0, len(strips), 2)])


def _single_row(pool: PhotoPool, seed: int, index: int, size: int) -> np.ndarray:
    forged, twin = samples.single(pool, seed, index, size), samples.single(pool, seed, index + 1, size)
    return np.hstack([_named(forged.picture, forged.kind), _grey(forged.mask), twin.picture])


def _pair_row(pool: PhotoPool, seed: int, index: int, size: int) -> np.ndarray:
    sample = samples.pair(pool, seed, index, size)
    shown = np.where(sample.valid[..., None], sample.original, 127).astype(np.uint8)
    return np.hstack([_named(sample.forged, sample.kind), shown, _grey(sample.mask)])


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2)


def _named(picture: np.ndarray, name: str) -> np.ndarray:
    shown = picture.copy()
    cv2.putText(shown, name, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 0), 1, cv2.LINE_AA)
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
