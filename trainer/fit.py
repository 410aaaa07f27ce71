"""Fits a network on generated forgeries: `python -m trainer.fit difference|web_iml --photos DIR --minutes 20`.

In: photographs (and outlines of things in them, where known), and for the single-image network the samples of a frozen
dataset version, where wanted. Out: a safetensors file with the averaged weights, and
with seed, code and data hashes, command and calibration in its metadata. A checkpoint beside it lets `--resume` go on
after an interruption. Reads top to bottom: pool, network, loop, calibration, file. The same code runs on one CPU and,
started by `accelerate launch -m trainer.fit ...`, on many GPUs and nodes; docs/fitting.md is the page for users.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from model_archive import weights
from model_archive.card import sha256
from trainer import schedule
from trainer.calibrate import calibrated
from trainer.data import MARKING, Batch
from trainer.feed import Chosen, Feed, feed
from trainer.fit_settings import FitSettings, parsed
from trainer.fit_state import State, checkpoint, started
from trainer.loss import LOSSES
from trainer.processes import Crew
from trainer.progress_sheet import progress_sheet
from trainer.provenance import code_digest, has_bfloat16, machine
from trainer.scoring import twin_losses
from trainer.synthesis.photos import PhotoPool
from trainer.throughput import Throughput
from trainer.tracking import Tracking

__all__ = ["FitSettings", "Surroundings", "code_digest", "fit", "loop", "parsed", "started"]

TRACKED_EVERY = 50  # steps between two rows of numbers in MLflow


@dataclass(slots=True)
class Surroundings:
    """What a loop has beside it, none of which decides the result of a step."""

    crew: Crew
    bar: Progress
    shown: PhotoPool | None = None  # photographs for the sheet of samples
    pool: PhotoPool | None = None  # photographs that hard examples are made of, where they are mined
    made: Feed | None = None  # knows how fast samples are made
    tracking: Tracking | None = None
    throughput: Throughput = field(default_factory=Throughput)


def fit(settings: FitSettings, console: Console) -> weights.Card:
    """Runs a fit, writes `settings.out`, and returns the card that it was written with.

    Where several processes fit, the first one writes; the others return a card without calibration.
    """
    crew = Crew(settings.device)
    if crew.world > 1 and settings.steps is None:
        raise ValueError("several processes count steps, not minutes: give --steps")
    cv2.setNumThreads(1)  # before sample makers are forked: OpenCV's own threads do not survive that, and block them
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    pool = PhotoPool.scan(settings.photos, settings.outlines, split="fit")
    held_out = PhotoPool.scan(settings.photos, settings.outlines, split="held_out")
    state = started(settings, crew)
    card = weights.Card(
        network=settings.network,
        version=settings.version,
        seed=settings.seed,
        code_sha256=code_digest(),
        data_sha256=pool.digest(),
        dataset=settings.dataset,
        backbone_sha256="" if settings.backbone_weights is None else sha256(settings.backbone_weights),
        started_from="" if settings.start_from is None else weights.load(settings.start_from).version,
        command=settings.command,
    )
    if settings.resume and settings.checkpoint.exists():
        state.restore(torch.load(settings.checkpoint, weights_only=True, map_location=crew.device))
        console.print(f"resumed at step {state.step}")
    crew.agreed(state.step)
    state.called = crew.shared(state.network, compiled=settings.compile)
    tracking = _tracking(settings, state, crew, console, card) if settings.track and crew.first else None
    well = False
    try:
        stream = Feed(settings, pool, crew, state.hard, first_step=state.step)
        with _progress(console, settings, shown=crew.first) as bar:
            beside = Surroundings(crew, bar, held_out, pool, stream, tracking)
            loop(settings, state, feed(stream, workers=settings.workers, device=crew.device), beside)
        card = finished(settings, state, crew, card, held_out, console)
        well = True
    finally:
        if tracking is not None:
            told = {"card.json": json.dumps(asdict(card), indent=2)} if well else {}
            files = [settings.sheet, settings.out] if well else [settings.sheet]
            tracking.end(well=well, files=[path for path in files if path.exists()], texts=told)
    return card


def loop(settings: FitSettings, state: State, stream: Iterator[Batch], beside: Surroundings) -> None:
    """Steps until the fit is done; changes `state`. Leaves a checkpoint behind, and beside it a sheet of what the
    averaged network makes of samples of the photographs `beside.shown`, where there are any."""
    bar, crew = beside.bar, beside.crew
    task = bar.add_task(
        settings.network, total=settings.steps, completed=state.step, loss=float("nan"), rate=0.0, speed=""
    )
    smooth: float | None = None
    clock = time.monotonic() - state.elapsed_s
    state.network.train()
    while (done := progress(settings, state)) < 1.0:
        rate = schedule.rate(done, state.step, peak=settings.peak_rate, warmup_steps=settings.warmup_steps)
        asked = time.perf_counter()
        passes = [next(stream) for _ in range(settings.accumulate)]
        began = time.perf_counter()
        loss = step(settings, state, passes, rate, crew)
        beside.throughput.add(began - asked, time.perf_counter() - began, state.pictures_a_step)
        state.step += 1
        state.elapsed_s = time.monotonic() - clock
        smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
        if state.hard.due(state.step) and beside.pool is not None:
            mine(settings, state, beside)
        speed = beside.throughput.short(_making(beside))
        bar.update(task, completed=state.step, loss=smooth, rate=rate, speed=speed)
        if beside.tracking is not None and state.step % TRACKED_EVERY == 0:
            beside.tracking.numbers(state.step, _numbers(beside, smooth, rate))
        if state.step % settings.checkpoint_every == 0:
            report(settings, state, beside, crew.mean(smooth), rate)
            beside.throughput = Throughput()
    if crew.first:
        checkpoint(settings, state)
        if beside.tracking is not None and smooth is not None:
            beside.tracking.numbers(state.step, _numbers(beside, smooth, rate))


def step(settings: FitSettings, state: State, passes: list[Batch], rate: float, crew: Crew) -> float:
    """One step of AdamW at a learning rate; returns the loss, the mean over the passes of this process."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    # Layers that draw lots (none of the small networks has any) draw the same after a resumption.
    torch.manual_seed(((settings.seed << 24) + state.step * crew.world + crew.rank) % 2**63)
    state.optimiser.zero_grad(set_to_none=True)
    losses = []
    for batch in passes[:-1]:
        with crew.alone(state.called):
            losses.append(_backward(settings, state, batch, crew))
    losses.append(_backward(settings, state, passes[-1], crew))
    nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    state.optimiser.step()
    if crew.first:
        _average(state, min(settings.average, (state.step + 1) / (state.step + 10)))
    return float(torch.stack(losses).sum())


def _backward(settings: FitSettings, state: State, batch: Batch, crew: Crew) -> Tensor:
    """Adds a pass's gradients; returns its share of the step's loss."""
    x, target = batch.x.to(crew.device, non_blocking=True), batch.target.to(crew.device, non_blocking=True)
    with torch.autocast(
        torch.device(crew.device).type, torch.bfloat16, enabled=settings.half and has_bfloat16(crew.device)
    ):
        out = state.called(x)
    loss: Tensor = LOSSES[settings.network](out, target, settings.loss) / settings.accumulate
    torch.autograd.backward(loss)
    return loss.detach()


def mine(settings: FitSettings, state: State, beside: Surroundings) -> None:
    """Lets the averaged network score a pool of samples, and keeps the hardest of them for a later round."""
    assert beside.pool is not None
    crew = beside.crew
    indices = state.hard.pool(state.step)
    losses = np.zeros(len(indices) // 2)
    if crew.first:
        stream = feed(Chosen(settings, beside.pool, indices), workers=settings.workers, device=crew.device)
        losses = twin_losses(settings, state.averaged, stream, len(losses), crew.device)
    state.hard.learn(state.step, indices, crew.from_first(losses))


def progress(settings: FitSettings, state: State) -> float:
    """Share of the fit that is done, 0..1: by steps where they are given, otherwise by the clock."""
    if settings.steps is not None:
        return state.step / settings.steps
    return state.elapsed_s / (settings.minutes * 60.0)


def report(settings: FitSettings, state: State, beside: Surroundings, loss: float, rate: float) -> None:
    """The first process writes the checkpoint, draws the sheet, and says how it stands."""
    if not beside.crew.first:
        return
    checkpoint(settings, state)
    if beside.shown is not None:
        progress_sheet(state.averaged, settings.network, beside.shown, settings.sheet, settings.seed, settings.size)
    if beside.tracking is not None and settings.sheet.exists():
        beside.tracking.file(settings.sheet)
    beside.bar.console.print(
        f"step {state.step}  {state.elapsed_s / 60:.1f} min  loss {loss:.4f}  rate {rate:.2e}  "
        f"{beside.throughput.line(_making(beside))}"
    )


def finished(
    settings: FitSettings, state: State, crew: Crew, card: weights.Card, held_out: PhotoPool, console: Console
) -> weights.Card:
    """The card of a fit that is done; the first process calibrates and writes the weights."""
    ran_on = machine(crew.device, threads=settings.threads, processes=crew.world)
    card = replace(
        card,
        steps=state.step,
        samples=state.step * state.pictures_a_step,
        fitted_on=f"{ran_on}, {state.elapsed_s / 60:.1f} minutes",
    )
    if not crew.first:
        return card
    state.averaged.to("cpu")
    if settings.network in MARKING:
        console.print(f"calibrating on {settings.calibration_samples} generated pictures of held-out photographs")
        card = calibrated(state.averaged, card, held_out, count=settings.calibration_samples, seed=settings.seed + 1)
    weights.save(state.averaged, card, settings.out)
    console.print(f"{settings.out}: {card}")
    return card


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    for kept, now in zip(state.averaged.state_dict().values(), state.network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now, 1.0 - decay)
        else:
            kept.copy_(now)


def _making(beside: Surroundings) -> float:
    """Pictures a second that the makers of all processes could make; nan where they are not known."""
    return float("nan") if beside.made is None else beside.made.rate() * beside.crew.world


def _numbers(beside: Surroundings, loss: float, rate: float) -> dict[str, float]:
    """The metrics that are tracked."""
    numbers = {
        "loss": loss,
        "learning_rate": rate,
        "samples_per_s": beside.throughput.reached,
        "samples_per_s_fitting": beside.throughput.fitting,
        "waiting_share": beside.throughput.waiting,
    }
    if (making := _making(beside)) == making:  # not nan, which databases do not take
        numbers["samples_per_s_making"] = making
    if torch.device(beside.crew.device).type == "cuda":
        numbers["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return numbers


def _tracking(settings: FitSettings, state: State, crew: Crew, console: Console, card: weights.Card) -> Tracking:
    """The run of MLflow, begun or gone on with; `state` keeps its id."""
    known = {
        "code_sha256": card.code_sha256,
        "data_sha256": card.data_sha256,
        "dataset": card.dataset,
        "backbone_sha256": card.backbone_sha256,
        "started_from": card.started_from,
        "processes": str(crew.world),
        "machine": machine(crew.device, threads=settings.threads, processes=crew.world),
    }
    tracking = Tracking(settings, console, known=known, run_id=state.run_id)
    state.run_id = tracking.run_id
    return tracking


def _progress(console: Console, settings: FitSettings, *, shown: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.1e}  {task.fields[speed]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, refresh_per_second=2, disable=not shown)


def main() -> int:
    """Command line entry; returns the exit status."""
    settings = parsed(sys.argv[1:])
    fit(settings, Console())
    Crew(settings.device).leave()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
