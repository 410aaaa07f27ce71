"""Fits the vocabulary of visual words: `python -m trainer.vocabulary --photos DIR --out FILE.safetensors`.

In: photographs. Out: a safetensors file of `services.core.intake.words.Vocabulary`: PCA of RootSIFT descriptors to 64
numbers, and k-means of either half (Jegou et al., PAMI 2011). The same photographs and seed give the same file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from safetensors.numpy import save_file
from torch import Tensor

from services.core.alignment import root_sift
from services.core.intake.words import CONTRAST, SIDE
from services.core.pixels import open_image, to_grey
from trainer.synthesis.photos import PhotoPool

Floats = npt.NDArray[np.float32]

NUMBERS = 64  # of a projected descriptor
CELLS = 512  # of each half: 2**18 words
ROUNDS = 20
STRONGEST = 500  # features of a photograph that are looked at
DESCRIPTORS = 150_000  # that are clustered
NAME = "words-2"  # what the vocabulary is used on, and how, counts as well: see decision 0019


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.vocabulary", description=__doc__)
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of photographs")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--most", type=int, default=1000, help="photographs that are looked at (%(default)s)")
    parser.add_argument("--cells", type=int, default=CELLS, help="cells of each half (%(default)s)")
    parser.add_argument("--seed", type=int, default=20261127)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    photos = PhotoPool.scan(options.photos, split="fit").photos
    chance = np.random.default_rng(options.seed)
    chosen = [photos[int(place)] for place in chance.permutation(len(photos))[: options.most]]
    none = np.zeros((0, 128), np.float32)
    seen = np.concatenate([none, *(descriptors(photo.path) for photo in track(chosen, "features", console=console))])
    if len(seen) < 2 * options.cells:
        parser.error(f"{len(chosen)} photographs have {len(seen)} features: {2 * options.cells} are the least")
    some = seen[chance.permutation(len(seen))[:DESCRIPTORS]].astype(np.float32)
    save_file(vocabulary(some, options.cells, options.seed), options.out, metadata={"name": NAME})
    console.print(f"{options.out}: {options.cells**2:,} words from {len(some):,} features of {len(chosen)} photographs")
    return 0


def descriptors(path: Path) -> Floats:
    """RootSIFT descriptors [N,128] of the strongest features of a photograph, at the size at which lookup sees it."""
    picture = open_image(path.read_bytes(), max_side=SIDE)
    sift = cv2.SIFT.create(nfeatures=STRONGEST, contrastThreshold=CONTRAST)
    _, found = sift.detectAndCompute(to_grey(picture.rgb), None)
    if found is None:
        return np.zeros((0, 128), np.float32)
    return root_sift(found)


def vocabulary(seen: Floats, cells: int, seed: int) -> dict[str, Floats]:
    """The tensors of a vocabulary, by name, from descriptors [N,128]."""
    mean = seen.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((seen - mean).T))
    strongest = axes[:, ::-1][:, :NUMBERS]
    axes = np.concatenate([strongest[:, ::2], strongest[:, 1::2]], axis=1).astype(np.float32)  # halves weigh alike
    projected = torch.from_numpy((seen - mean) @ axes)
    first, second = (
        kmeans(half, cells, torch.Generator().manual_seed(seed + place)).numpy()
        for place, half in enumerate((projected[:, : NUMBERS // 2], projected[:, NUMBERS // 2 :]))
    )
    return {"mean": mean, "axes": axes, "first": first, "second": second}


def kmeans(rows: Tensor, cells: int, chance: torch.Generator) -> Tensor:
    """[cells,D] centres of rows [N,D] by Lloyd's algorithm; a cell that nothing is nearest to starts anew."""
    centres = rows[torch.randperm(len(rows), generator=chance)[:cells]].clone()
    for _ in range(ROUNDS):
        nearest = (2.0 * rows @ centres.T - (centres * centres).sum(dim=1)).argmax(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, rows)
        counts = torch.bincount(nearest, minlength=cells)
        anew = rows[torch.randperm(len(rows), generator=chance)[:cells]]
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], anew)
    return centres


if __name__ == "__main__":
    sys.exit(main())
