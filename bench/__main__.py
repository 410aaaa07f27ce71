"""`python -m bench --out docs/benchmarks.md`: one run on a stack of its own, and the page about it.

In: the samples' photographs. Out: Markdown, and a short summary on stdout. Exit status 1 where something did not work,
not where a goal is missed: the page says that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, sleep

import cv2

from bench.drivers import Round, Stream, joined, listening, straight
from bench.figures import Figures, Runs, Setting, page
from bench.memory import PeakMemory
from bench.pictures import mosaics
from services.cli.connections import opened_door
from services.clients.models import Models, Watch
from services.core.errors import Broken, PentimentoError
from services.core.events import Path as VerdictPath
from services.core.intake.examine import Limits, examine
from services.local.stack import running_stack
from services.opening import open_models
from services.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
SEED = 20261122
LOOK_S = 2.0  # how long is looked at what else the machine does


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    images: int  # a round
    alone: int  # images one at a time
    duplicates: int
    at_once: int  # on their way; the model server's queue holds 100
    duplicates_at_once: int
    fingerprints_s: float


FULL = Size(rounds=4, images=24, alone=20, duplicates=300, at_once=8, duplicates_at_once=32, fingerprints_s=5.0)
QUICK = Size(rounds=1, images=4, alone=2, duplicates=8, at_once=4, duplicates_at_once=8, fingerprints_s=0.5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="write the page here (default: stdout)")
    parser.add_argument("--data", type=Path, help="data folder of the stack (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="a few images only: does it work?")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    size = QUICK if options.quick else FULL
    setting = Setting(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        command=shlex.join(["python", "-m", "bench", *given]),
        at_once=size.at_once,
        busy_before=busy_share(LOOK_S),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="pentimento-bench-") as folder:
            figures = measured(Path(folder) / "pictures", options.data or Path(folder) / "data", size)
    except (PentimentoError, TimeoutError) as error:
        print(f"error: {error or 'a verdict did not come in time'}", file=sys.stderr)
        return 1
    text = page(figures, setting)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"ratio {figures.ratio:.2f}, overhead {figures.overhead_ms:.0f} ms; the page is {options.out}")
    return 0


def machine() -> str:
    """What kind of machine this is, not which."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({platform.machine()}), {memory_gb:.0f} GB of memory, no GPU used"


def busy_share(seconds: float) -> float:
    """Share of the cores, 0..1, that were busy during so many seconds."""
    first = _ticks()
    sleep(seconds)
    idle, total = (now - before for now, before in zip(_ticks(), first, strict=True))
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """(idle, all) ticks of all cores since the machine started; see proc_stat(5)."""
    counts = [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)


def measured(pictures: Path, data: Path, size: Size) -> Figures:
    """Starts the stack, measures everything, stops it. Raises Unavailable, TimeoutError."""
    photos = sorted((ROOT / "samples" / "originals").glob("*.jpg"))
    paths = mosaics(photos, pictures, size.rounds * size.images + size.alone + 2, seed=SEED)
    fingerprints = fingerprints_per_s(paths, size.fingerprints_s)
    say("starting the stack")
    with running_stack(data) as stack, PeakMemory(stack) as memory:
        runs = asyncio.run(_runs(load_settings(data), paths, size))
    return Figures(runs, fingerprints_per_s=fingerprints, peak_bytes=memory.peak, peak_parts=memory.parts)


async def _runs(settings: Settings, paths: Sequence[Path], size: Size) -> Runs:
    """Every run on a stack that serves. The first two pictures warm it up and become the duplicate."""
    models = open_models(settings.models.model_copy(update={"in_flight": size.at_once}), Watch())
    try:
        async with opened_door(settings) as door, listening(door, settings) as stream:
            say("warming up")
            warm, rest = paths[:2], list(paths[2:])
            await stream.together(warm, 2)
            await straight(models, warm, 2)
            alone, rest = rest[: size.alone], rest[size.alone :]
            through_alone, straight_alone = await _alone(stream, models, alone)
            through, bare = await _rounds(stream, models, rest, size)
            say(f"{size.duplicates} duplicates")
            duplicates = await stream.together([warm[0]] * size.duplicates, size.duplicates_at_once)
            _check(duplicates)
            return Runs(through, bare, through_alone, straight_alone, duplicates, stream.repeated)
    finally:
        await models.close()


async def _alone(stream: Stream, models: Models, paths: Sequence[Path]) -> tuple[Round, Round]:
    """One image at a time, each both ways, by turns."""
    say(f"{len(paths)} images one at a time")
    through: list[Round] = []
    bare: list[Round] = []
    for number, path in enumerate(paths):
        for way in ("straight", "through") if number % 2 else ("through", "straight"):
            if way == "straight":
                bare.append(await straight(models, [path], 1))
            else:
                through.append(await stream.together([path], 1))
    return joined(through), joined(bare)


async def _rounds(
    stream: Stream, models: Models, paths: Sequence[Path], size: Size
) -> tuple[tuple[Round, ...], tuple[Round, ...]]:
    """Rounds of images under load, each both ways, by turns."""
    through: list[Round] = []
    bare: list[Round] = []
    for number in range(size.rounds):
        batch = paths[number * size.images : (number + 1) * size.images]
        for way in ("straight", "through") if number % 2 else ("through", "straight"):
            if way == "straight":
                bare.append(await straight(models, batch, size.at_once))
            else:
                through.append(await stream.together(batch, size.at_once))
        say(f"round {number + 1}: through {through[-1].rate:.2f}, straight {bare[-1].rate:.2f} images/s")
    return tuple(through), tuple(bare)


def _check(duplicates: Round) -> None:
    """A duplicate that took another path would not be one, and its rate would mean nothing. Raises Broken."""
    others = {a.verdict.path.value for a in duplicates.arrivals if a.verdict.path is not VerdictPath.REUSED}
    if others:
        raise Broken(f"duplicates were judged again, by the paths {', '.join(sorted(others))}")


def fingerprints_per_s(paths: Sequence[Path], seconds: float) -> float:
    """Images a second that one core guards and fingerprints, over at least so many seconds."""
    cv2.setNumThreads(1)
    contents = [path.read_bytes() for path in paths]
    done, started = 0, perf_counter()
    while (passed := perf_counter() - started) < seconds:
        examine(contents[done % len(contents)], Limits())
        done += 1
    return done / passed


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
