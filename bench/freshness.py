"""`python -m bench.freshness`: how long a registered original takes until lookup finds it, on a running stream.

In: the samples' photographs, of which mosaics are made, no two alike. Out: p50, p95 and p99, as two lines of Markdown
on stdout: until a search by its fingerprint finds it, as an upload's would, and until it is prepared, so that its parts
are found. Originals arrive at a steady rate, whether or not earlier ones are findable yet; each is timed from just
before its event is sent. Without `--data` a stack is started.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
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
from services.clients.preparation import Unprepared
from services.core.errors import PentimentoError
from services.core.events import Fingerprint
from services.core.intake.examine import Limits, examine
from services.local.options import StackOptions
from services.local.stack import running_stack
from services.settings import Settings, load_settings

GOAL_P95_S = 2.0
LOOK_S = 0.02  # between two searches for one original: what a figure may be too large by
LOOK_PREPARED_S = 0.1  # between two looks at all that wait to be prepared
WITHIN_S, PREPARED_WITHIN_S = 120.0, 900.0
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
                timed = asyncio.run(measured(load_settings(options.data), paths, options.rate))
            else:
                data = Path(folder) / "data"
                say("starting the stack")
                with running_stack(data, StackOptions(web=False)):
                    timed = asyncio.run(measured(load_settings(data), paths, options.rate))
    except (PentimentoError, TimeoutError) as error:
        print(f"error: {error or 'an original was not findable in time'}", file=sys.stderr)
        return 1
    print(*lines(timed, options.rate, busy), sep="\n")
    return 0


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds from sending an original until it was found as a whole, and until it was prepared."""

    findable_s: float
    prepared_s: float


def lines(timed: Sequence[Timed], rate: float, busy: float) -> tuple[str, str]:
    """The results, a line of Markdown each."""
    here = f"{machine()}, {busy:.0%} busy with other work"
    found, prepared = [each.findable_s for each in timed], [each.prepared_s for each in timed]
    pace = len(timed) / max(number / rate + seconds for number, seconds in enumerate(prepared))
    return (
        f"registered -> findable, {_spread(found, rate, f' (goal: < {GOAL_P95_S:g} s)')}; {here}",
        f"registered -> findable by its parts, {_spread(prepared, rate)}, {pace:.1f}/s prepared; {here}",
    )


def _spread(seconds: Sequence[float], rate: float, goal: str = "") -> str:
    p50, p95, p99 = (quantiles(seconds, n=100, method="inclusive")[at - 1] for at in (50, 95, 99))
    return (
        f"{len(seconds)} originals at {rate:g}/s: p50 {p50:.2f} s, **p95 {p95:.2f} s**{goal}, p99 {p99:.2f} s, "
        f"longest {max(seconds):.2f} s"
    )


async def measured(settings: Settings, paths: Sequence[Path], rate: float) -> list[Timed]:
    """Each original but the first few. Raises Unavailable, TimeoutError."""
    tenant = f"bench-{uuid4().hex[:8]}"
    looks = [examine(path.read_bytes(), Limits()).fingerprint for path in paths]
    async with opened_door(settings) as door, opened_database(settings) as database:
        stopwatch = _Stopwatch(door, Candidates(database), Unprepared(database), tenant)
        for path, look in zip(paths[:WARM], looks, strict=False):
            await stopwatch.one(path, look)
        say(f"{len(paths) - WARM} originals at {rate:g}/s")
        under_way = []
        began = perf_counter()
        for number, (path, look) in enumerate(zip(paths[WARM:], looks[WARM:], strict=True)):
            await asyncio.sleep(max(0.0, began + number / rate - perf_counter()))
            under_way.append(asyncio.create_task(stopwatch.one(path, look)))
        return await asyncio.gather(*under_way)


class _Stopwatch:
    """Times originals of one tenant. What waits to be prepared is asked once for all of them."""

    def __init__(self, door: Door, candidates: Candidates, unprepared: Unprepared, tenant: str) -> None:
        self._door = door
        self._candidates = candidates
        self._unprepared = unprepared
        self._tenant = tenant
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def one(self, path: Path, look: Fingerprint) -> Timed:
        """Registers one original and waits until a search finds it, and until it is prepared."""
        started = perf_counter()
        event, digest = await register(self._door, FileSource(path, path.name), source="bench", tenant=self._tenant)
        async with asyncio.timeout(WITHIN_S):
            while True:
                if await self._found(event.original_id, look):
                    break
                await asyncio.sleep(LOOK_S)
        found = perf_counter()
        prepared = self._waiting[digest] = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        async with asyncio.timeout(PREPARED_WITHIN_S):
            return Timed(found - started, await prepared - started)

    async def _found(self, original_id: str, look: Fingerprint) -> bool:
        near = await self._candidates.nearest(self._tenant, look, max_distance=0, limit=5, trusted=True)
        return any(each.picture.original_id == original_id for each in near)

    async def _look(self) -> None:
        """Until none waits. Whoever is found waits from then on: the row that says so came with what it is found by."""
        while asked := list(self._waiting):
            still = await self._unprepared.among(self._tenant, asked)
            for digest in set(asked) - still:
                self._waiting.pop(digest).set_result(perf_counter())
            await asyncio.sleep(LOOK_PREPARED_S)


if __name__ == "__main__":
    raise SystemExit(main())
