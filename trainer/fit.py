"""Fits a network on generated forgeries: `python -m trainer.fit difference|web_iml --photos DIR --minutes 20`.

In: photographs (and outlines of things in them, where known). Out: a safetensors file with the averaged weights, and
with seed, code and data hashes, command and calibration in its metadata. A checkpoint beside it lets `--resume` go on
after an interruption. Reads top to bottom: settings, pool, network, loop, calibration, file.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from model_archive import weights
from model_archive.networks import registry
from trainer import schedule
from trainer.calibrate import calibrated
from trainer.data import MARKING, Batch, SampleStream, batches
from trainer.loss import LOSSES, LossWeights
from trainer.progress_sheet import progress_sheet
from trainer.synthesis.photos import PhotoPool

SOURCES = (
    "model_archive/networks",
    "model_archive/preprocess.py",
    "trainer/calibrate.py",
    "trainer/data.py",
    "trainer/fit.py",
    "trainer/loss.py",
    "trainer/schedule.py",
    "trainer/synthesis",
)
"""What decides a fit's result; their hash travels with the weights."""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Everything that decides a fit, each with its unit and reason."""

    network: str
    photos: tuple[Path, ...]
    outlines: tuple[Path, ...] = ()
    out: Path = Path("fitted.safetensors")
    version: str = "0.1.0"
    minutes: float = 20.0  # wall clock; ignored where `steps` is given
    steps: int | None = None  # a fixed number of steps makes a fit repeatable on the same machine kind
    batch: int = 12  # pictures a step: what two small cores digest in under a second
    size: int = 256  # pixels: 32 x 32 JPEG blocks, enough context for a small network
    peak_rate: float = 2.5e-3  # AdamW from random weights with batch normalisation
    warmup_steps: int = 150
    weight_decay: float = 0.02
    average: float = 0.998  # decay per step of the averaged weights, which are the ones that ship
    clip: float = 2.0  # largest norm of the gradient: a few odd batches must not undo the rest
    loss: LossWeights = field(default_factory=LossWeights)
    seed: int = 20261122
    threads: int = 1
    workers: int = 1  # processes that make samples; the fit is the same for any number of them
    device: str = "cpu"
    half: bool = True  # bfloat16 where the processor has it: twice as fast, same masks
    checkpoint_every: int = 250  # steps
    resume: bool = False
    calibration_samples: int = 400
    command: str = ""

    @property
    def checkpoint(self) -> Path:
        """Where the resumable state lies."""
        return self.out.with_suffix(".checkpoint.pt")

    @property
    def sheet(self) -> Path:
        """Where the sample pictures lie, renewed with every checkpoint."""
        return self.out.with_suffix(".samples.png")


PROFILES: dict[str, dict[str, Any]] = {
    "cpu": {},
    "gpu": {"size": 384, "batch": 48, "steps": 40_000, "workers": 14},
}
"""Defaults by kind of machine: two cores in about an hour and a half, one H100-class GPU over night."""


@dataclass(slots=True)
class State:
    """What a checkpoint holds: all that changes from step to step."""

    network: nn.Module
    averaged: nn.Module
    optimiser: torch.optim.Optimizer
    step: int = 0
    elapsed_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Tensors and numbers only, so that it loads without pickled code."""
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continues from `to_dict`."""
        self.network.load_state_dict(saved["network"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.elapsed_s = saved["step"], saved["elapsed_s"]


def fit(settings: FitSettings, console: Console) -> weights.Card:
    """Runs a fit, writes `settings.out`, and returns the card that it was written with."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    pool = PhotoPool.scan(settings.photos, settings.outlines, split="fit")
    held_out = PhotoPool.scan(settings.photos, settings.outlines, split="held_out")
    code = code_digest()
    state = started(settings)
    if settings.resume and settings.checkpoint.exists():
        state.restore(torch.load(settings.checkpoint, weights_only=True, map_location=settings.device))
        console.print(f"resumed at step {state.step}")
    stream = SampleStream(
        settings.network, pool, seed=settings.seed, size=settings.size, batch=settings.batch, first_step=state.step
    )
    with _progress(console, settings) as bar:
        loop(settings, state, batches(stream, workers=settings.workers), bar, held_out)
    card = weights.Card(
        network=settings.network,
        version=settings.version,
        seed=settings.seed,
        steps=state.step,
        samples=state.step * settings.batch,
        code_sha256=code,
        data_sha256=pool.digest(),
        command=settings.command,
        fitted_on=f"{_machine(settings)}, {state.elapsed_s / 60:.1f} minutes",
    )
    state.averaged.to("cpu")
    if settings.network in MARKING:
        console.print(f"calibrating on {settings.calibration_samples} generated pictures of held-out photographs")
        card = calibrated(state.averaged, card, held_out, count=settings.calibration_samples, seed=settings.seed + 1)
    weights.save(state.averaged, card, settings.out)
    console.print(f"{settings.out}: {card}")
    return card


def started(settings: FitSettings) -> State:
    """A state at step 0."""
    network = registry.build(settings.network).to(settings.device)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.peak_rate, betas=(0.9, 0.99))
    return State(network, copy.deepcopy(network).requires_grad_(False), optimiser)


def loop(
    settings: FitSettings, state: State, stream: Iterator[Batch], bar: Progress, shown: PhotoPool | None = None
) -> None:
    """Steps until the fit is done; changes `state`. Leaves a checkpoint behind, and beside it a sheet of what the
    averaged network makes of samples of the photographs `shown`, where there are any."""
    task = bar.add_task(settings.network, total=settings.steps, completed=state.step, loss=float("nan"), rate=0.0)
    smooth: float | None = None
    clock = time.monotonic() - state.elapsed_s
    state.network.train()
    while (done := progress(settings, state)) < 1.0:
        rate = schedule.rate(done, state.step, peak=settings.peak_rate, warmup_steps=settings.warmup_steps)
        loss = step(settings, state, next(stream), rate)
        state.step += 1
        state.elapsed_s = time.monotonic() - clock
        smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
        bar.update(task, completed=state.step, loss=smooth, rate=rate)
        if state.step % settings.checkpoint_every == 0:
            checkpoint(settings, state)
            if shown is not None:
                progress_sheet(state.averaged, settings.network, shown, settings.sheet, settings.seed, settings.size)
            bar.console.print(f"step {state.step}  {state.elapsed_s / 60:.1f} min  loss {smooth:.4f}  rate {rate:.2e}")
    checkpoint(settings, state)


def step(settings: FitSettings, state: State, batch: Batch, rate: float) -> float:
    """One step of AdamW at a learning rate; returns the loss."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    x, target = batch.x.to(settings.device), batch.target.to(settings.device)
    with torch.autocast(
        torch.device(settings.device).type, torch.bfloat16, enabled=settings.half and _has_bfloat16(settings)
    ):
        out = state.network(x)
    loss = LOSSES[settings.network](out, target, settings.loss)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    state.optimiser.step()
    _average(state, min(settings.average, (state.step + 1) / (state.step + 10)))
    return float(loss.detach())


def progress(settings: FitSettings, state: State) -> float:
    """Share of the fit that is done, 0..1: by steps where they are given, otherwise by the clock."""
    if settings.steps is not None:
        return state.step / settings.steps
    return state.elapsed_s / (settings.minutes * 60.0)


def checkpoint(settings: FitSettings, state: State) -> None:
    """Writes the state whole or not at all."""
    settings.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = settings.checkpoint.with_suffix(".writing")
    torch.save(state.to_dict(), unfinished)
    unfinished.replace(settings.checkpoint)


def code_digest() -> str:
    """SHA-256 over the sources that decide what a fit does."""
    root = Path(__file__).resolve().parents[1]
    files = [
        f for place in SOURCES for f in ([root / place] if place.endswith(".py") else (root / place).rglob("*.py"))
    ]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    for kept, now in zip(state.averaged.state_dict().values(), state.network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now, 1.0 - decay)
        else:
            kept.copy_(now)


def _machine(settings: FitSettings) -> str:
    if torch.device(settings.device).type == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()}, {settings.threads} thread(s)"


def _has_bfloat16(settings: FitSettings) -> bool:
    if torch.device(settings.device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _progress(console: Console, settings: FitSettings) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.1e}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, refresh_per_second=2)


def parsed(arguments: list[str]) -> FitSettings:
    """Settings from a command line."""
    base = FitSettings(network="", photos=())
    parser = argparse.ArgumentParser(prog="python -m trainer.fit", description="Fit a network on generated forgeries.")
    parser.add_argument("network", choices=sorted(registry.NETWORKS))
    parser.add_argument("--photos", type=Path, action="append", help="folder of photographs (default: samples/)")
    parser.add_argument("--outlines", type=Path, action="append", default=[], help="folder of label maps, same stems")
    parser.add_argument("--out", type=Path, help="default: model_archive/weights/<network>.safetensors")
    parser.add_argument("--minutes", type=float, default=base.minutes)
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--batch", type=int, default=base.batch)
    parser.add_argument("--size", type=int, default=base.size)
    parser.add_argument("--seed", type=int, default=base.seed)
    parser.add_argument("--threads", type=int, default=base.threads)
    parser.add_argument("--workers", type=int, default=base.workers, help="processes that make samples")
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="cpu", help="defaults for a kind of machine")
    parser.add_argument("--calibration-samples", type=int, default=base.calibration_samples)
    parser.add_argument("--version", default=base.version)
    parser.add_argument("--resume", action="store_true")
    profile, _ = parser.parse_known_args(arguments)
    parser.set_defaults(**PROFILES[profile.profile])
    options = vars(parser.parse_args(arguments))
    del options["profile"]
    if options["device"] == "auto":
        options["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    options["photos"] = tuple(options["photos"] or [Path("samples")])
    options["outlines"] = tuple(options["outlines"])
    options["out"] = options["out"] or weights.default_path(options["network"])
    return replace(base, **options, command=recorded(arguments))


def recorded(arguments: list[str]) -> str:
    """The command line as it is kept with the weights: without where they went, which decides nothing."""
    kept = list(arguments)
    if "--out" in kept:
        place = kept.index("--out")
        del kept[place : place + 2]
    return shlex.join(["python", "-m", "trainer.fit", *kept])


def main() -> int:
    """Command line entry; returns the exit status."""
    fit(parsed(sys.argv[1:]), Console())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
