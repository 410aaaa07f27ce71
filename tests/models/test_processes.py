"""Several processes fit one network: the same as one that takes as many passes a step. Real processes, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from trainer.data import SampleStream
from trainer.feed import Feed
from trainer.fit import FitSettings, fit
from trainer.mining import HardExamples
from trainer.processes import Crew
from trainer.synthesis.photos import PhotoPool

ROOT = Path(__file__).parents[2]
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def launched(launcher: Sequence[str], arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A fit by a launcher, in processes of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "trainer.fit", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            said, complained = started.communicate(timeout=240)
        finally:
            started.terminate()  # the launcher then ends what it started, which a kill would leave behind
    return subprocess.CompletedProcess(command, started.returncode, said, complained)


def options(out: Path, photo_folder: Path, *more: str) -> list[str]:
    photos = str(photo_folder / "photos")
    sizes = ["--size", "64", "--batch", "2", "--workers", "0", "--warmup-steps", "1", "--calibration-samples", "2"]
    return ["difference", "--photos", photos, "--out", str(out), "--device", "cpu", "--full-precision", *sizes, *more]


def parameters(checkpoint: Path, kind: str = "network") -> dict[str, Tensor]:
    """Without the running means of batch normalisation, which are those of the first process's pictures alone."""
    saved: dict[str, Tensor] = torch.load(checkpoint, weights_only=True)[kind]
    return {name: value for name, value in saved.items() if "running" not in name and "num_batches" not in name}


@pytest.mark.slow
def test_two_processes_fit_what_one_does_with_two_passes_and_go_on_where_they_stopped(
    photo_folder: Path, tmp_path: Path
) -> None:
    together = tmp_path / "two.safetensors"
    mining = ("--mine", "0.5", "--mine-every", "1", "--mine-pool", "4", "--checkpoint-every", "2")
    ended = launched(LAUNCHER, options(together, photo_folder, "--steps", "4", *mining))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("calibrating on") == 1  # by the first process alone
    alone = FitSettings(
        network="difference",
        photos=(photo_folder / "photos",),
        out=tmp_path / "one.safetensors",
        steps=4,
        batch=2,
        accumulate=2,
        size=64,
        workers=0,
        warmup_steps=1,
        half=False,
        calibration_samples=2,
    )
    fit(replace(alone, mining=replace(alone.mining, share=0.5, every=1, pool=4)), Console(quiet=True))
    two, one = (parameters(path.with_suffix(".checkpoint.pt")) for path in (together, alone.out))
    for name, value in two.items():
        torch.testing.assert_close(
            value, one[name], rtol=1e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_an_accelerate_launcher_starts_a_fit(photo_folder: Path, tmp_path: Path) -> None:
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1")
    out = tmp_path / "launched.safetensors"
    ended = launched((*launcher, "--mixed_precision", "no"), options(out, photo_folder, "--steps", "2"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert out.exists()


class Place(Crew):
    """One of several processes, for what only asks which one."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__("cpu")
        self.rank, self.world = rank, world


def test_the_processes_together_take_the_batches_of_the_one_stream(pool: PhotoPool) -> None:
    settings = FitSettings("pair_kind", (), batch=2, accumulate=2, workers=0, size=64)
    whole = iter(SampleStream("pair_kind", pool, seed=settings.seed, size=64, batch=2, first_step=5 * 2 * 3))
    hard = HardExamples(settings.mining, seed=settings.seed, pictures_a_step=12)
    feeds = [iter(Feed(settings, pool, Place(rank, 3), hard, first_step=5)) for rank in range(3)]
    for _ in range(settings.accumulate):
        for feed in feeds:
            assert torch.equal(next(feed).x, next(whole).x)


def test_a_card_counts_the_pictures_of_every_pass(photo_folder: Path, tmp_path: Path) -> None:
    settings = FitSettings("pair_kind", (photo_folder / "photos",), out=tmp_path / "a.safetensors", size=64, workers=0)
    assert fit(replace(settings, steps=2, batch=2, accumulate=3), Console(quiet=True)).samples == 12
