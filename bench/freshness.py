"""`python -m bench.freshness`: how long a registered original takes until lookup finds it, on a running stream.

In: the samples' photographs, of which mosaics are made, no two alike. Out: p50, p95 and p99, as a line of Markdown on
stdout. Originals arrive at a steady rate, whether or not earlier ones are findable yet; each is timed from just before
its event is sent until a search by its fingerprint finds it, as an upload's would. Without `--data` a stack is started.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from uuid import uuid4

from bench.__main__ import ROOT, SEED, busy_share, machine, say
from bench.pictures import mosaics
from services.cli.connections import Door, opened_database, opened_door
from services.cli.originals import register
from services.cli.sources import FileSource
from services.clients.candidates import Candidates
from services.core.errors import PentimentoError
from services.core.events import Fingerprint
from services.core.intake.examine import Limits, examine
from services.local.options import StackOptions
from services.local.stack import running_stack
from services.settings import Settings, load_settings

GOAL_P95_S = 2.0
LOOK_S = 0.02  # between two searches for one original: what a figure may be too large by
WITHIN_S = 120.0
WARM = 3  # originals before anything is timed: the first decoding starts a process


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where something did not work, not where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.freshness", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="originals that are timed")
    parser.add_argument("--rate", type=float, default=5.0, help="originals a second")
    parser.add_argument("--data", type=Path, help="data folder of a running stack (default: starts one)")
    options = parser.parse_args(list(sys.argv[1:] if arguments is None else arguments))
    try:
        with tempfile.TemporaryDirectory(prefix="pentimento-freshness-") as folder:
            busy = busy_share(1.0)
            photos = sorted((ROOT / "samples" / "originals").glob("*.jpg"))
            paths = mosaics(photos, Path(folder) / "pictures", options.count + WARM, seed=SEED)
            if options.data is not None:
                seconds = asyncio.run(measured(load_settings(options.data), paths, options.rate))
            else:
                data = Path(folder) / "data"
                say("starting the stack")
                with running_stack(data, StackOptions(web=False)):
                    seconds = asyncio.run(measured(load_settings(data), paths, options.rate))
    except (PentimentoError, TimeoutError) as error:
        print(f"error: {error or 'an original was not findable in time'}", file=sys.stderr)
        return 1
    print(line(seconds, options.rate, busy))
    return 0


def line(seconds: Sequence[float], rate: float, busy: float) -> str:
    """The result in one line of Markdown."""
    p50, p95, p99 = (quantiles(seconds, n=100, method="inclusive")[at - 1] for at in (50, 95, 99))
    return (
        f"registered -> findable, {len(seconds)} originals at {rate:g}/s: p50 {p50:.2f} s, **p95 {p95:.2f} s** "
        f"(goal: < {GOAL_P95_S:g} s), p99 {p99:.2f} s, longest {max(seconds):.2f} s; {machine()}, "
        f"{busy:.0%} busy with other work"
    )


async def measured(settings: Settings, paths: Sequence[Path], rate: float) -> list[float]:
    """Seconds of each original but the first few. Raises Unavailable, TimeoutError."""
    tenant = f"bench-{uuid4().hex[:8]}"
    looks = [examine(path.read_bytes(), Limits()).fingerprint for path in paths]
    async with opened_door(settings) as door, opened_database(settings) as database:
        candidates = Candidates(database)
        for path, look in zip(paths[:WARM], looks, strict=False):
            await _one(door, candidates, tenant, path, look)
        say(f"{len(paths) - WARM} originals at {rate:g}/s")
        under_way = []
        began = perf_counter()
        for number, (path, look) in enumerate(zip(paths[WARM:], looks[WARM:], strict=True)):
            await asyncio.sleep(max(0.0, began + number / rate - perf_counter()))
            under_way.append(asyncio.create_task(_one(door, candidates, tenant, path, look)))
        return await asyncio.gather(*under_way)


async def _one(door: Door, candidates: Candidates, tenant: str, path: Path, look: Fingerprint) -> float:
    """Registers one original and waits until a search finds it."""
    picture = FileSource(path, path.name)
    started = perf_counter()
    event, _ = await register(door, picture, source="bench", tenant=tenant)
    async with asyncio.timeout(WITHIN_S):
        while True:
            near = await candidates.nearest(tenant, look, max_distance=0, limit=5, trusted=True)
            if any(each.picture.original_id == event.original_id for each in near):
                return perf_counter() - started
            await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    raise SystemExit(main())
