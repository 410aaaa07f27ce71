"""The experiment of the learning loop in its smallest form, on the whole stack: that it runs, not what it finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.experiment_loop.forgeries import forgeries, parts

ROOT = Path(__file__).parents[2]
PHOTOS = (ROOT / "samples" / "originals", ROOT / "samples" / "donors")
SMALLEST = {
    "--steps": 3, "--refit-steps": 2, "--uploads": 8, "--tests": 4, "--side": 256, "--size": 64, "--batch": 4,
    "--calibration-samples": 4,
}  # fmt: skip


def test_no_photograph_is_in_two_parts_and_the_same_numbers_are_the_same_forgery() -> None:
    split = parts(PHOTOS, 400)
    stems = [
        {path.stem for path in split.fitted},
        *({photo.path.stem for photo in pool.photos} for pool in (split.uploaded, split.tested)),
    ]
    assert sum(map(len, stems)) == len(set.union(*stems)) == 10
    (made,) = forgeries(split.tested, ("removal",), 1, seed=1, side=192)
    (again,) = forgeries(split.tested, ("removal",), 1, seed=1, side=192)
    assert made.upload == again.upload
    assert made.mask.shape == (192, 192)
    assert 0 < np.mean(made.mask) < 0.6


@pytest.mark.slow
def test_the_smallest_experiment_goes_through_the_system_and_writes_its_page(tmp_path: Path) -> None:
    words = [word for folder in PHOTOS for word in ("--photos", str(folder))]
    words += [str(word) for pair in SMALLEST.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-m", "bench.experiment_loop", *words, "--work", str(tmp_path / "work"),
         "--out", str(tmp_path / "experiment-loop.md")],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [arm["name"] for arm in told["arms"]] == ["kept", "all", "random"]
    assert all(arm["low"] <= arm["gain"] <= arm["high"] for arm in told["arms"])
    page = (tmp_path / "experiment-loop.md").read_text()
    assert "| nothing new (champion) | 0 |" in page
    ElementTree.fromstring((tmp_path / "experiment-loop.svg").read_text())
