"""What a rate of uploads takes: cores, processes, partitions, and what that costs.

In: the figures that `make bench` measured (docs/benchmarks.md), a rate, prices. Out: a table. Everything is divided or
multiplied from measured figures; what was not measured (a GPU, your prices) is an argument, and the table says so.

    python -m bench.capacity                                  prints the table
    python -m bench.capacity --page docs/operations.md        writes it between that page's marks
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "docs" / "benchmarks.md"
RATES = (0.5, 1.0, 5.0, 20.0, 100.0)
BEGIN, END = "<!-- capacity: python -m bench.capacity -->", "<!-- /capacity -->"
ROOM = 0.7
"""Share of what was measured that is planned with: the rest is for bursts, restarts and a node that is gone."""

IN_FLIGHT = 8
"""`PENTIMENTO_STAGE__IN_FLIGHT`, as it is set by default."""


@dataclass(frozen=True, slots=True)
class Measured:
    """From the benchmarks' page: `models_per_core`, `intake_per_core` images/s; `alone_s`: one upload, nothing else."""

    models_per_core: float
    intake_per_core: float
    alone_s: float


@dataclass(frozen=True, slots=True)
class Prices:
    """Assumed, a month. `gpu_images_s`: what a GPU judges; None: not planned with."""

    core: float
    gpu: float
    gpu_images_s: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rate takes."""

    rate: float
    model_cores: int
    gpus: int
    intake: int
    judge: int
    learn: int
    partitions: int
    cost: float


def measured(page: str) -> Measured:
    """The figures on the page. Raises ValueError where one is not there."""

    def figure(pattern: str) -> float:
        found = re.search(pattern, page)
        if found is None:
            raise ValueError(f"the benchmarks' page has nothing like {pattern!r}: run `make bench`")
        return float(found.group(1))

    cores = figure(r": (\d+) cores \(")
    return Measured(
        models_per_core=figure(r"\| images/s \| ([\d.]+) \|") / cores,
        intake_per_core=figure(r"\| guard and fingerprint .*\| ([\d.]+) \|"),
        alone_s=figure(r"\| p50 one at a time \| ([\d.]+) ms") / 1000,
    )


def plan(rate: float, known: Measured, prices: Prices) -> Plan:
    """What `rate` new uploads a second take; duplicates take almost nothing and are not counted."""
    gpus = 0 if prices.gpu_images_s is None else ceil(rate / (prices.gpu_images_s * ROOM))
    model_cores = 0 if gpus else ceil(rate / (known.models_per_core * ROOM))
    intake = ceil(rate / (known.intake_per_core * ROOM))
    judge = ceil(rate / (IN_FLIGHT / known.alone_s * ROOM))
    learn = intake
    busiest = max(intake, judge, learn)
    cores = model_cores + intake + judge + learn
    return Plan(
        rate=rate,
        model_cores=model_cores,
        gpus=gpus,
        intake=intake,
        judge=judge,
        learn=learn,
        partitions=max(4, ceil(busiest / 4) * 8),  # twice the processes, so that a group can grow without more of them
        cost=cores * prices.core + gpus * prices.gpu,
    )


def table(rates: Sequence[float], known: Measured, prices: Prices) -> str:
    """The plans as Markdown."""
    lines = [
        "| new uploads/s | model server | `intake` | `judge` | `learn` | partitions | cost a month |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in (plan(rate, known, prices) for rate in rates):
        server = f"{each.gpus} GPUs" if each.gpus else f"{each.model_cores} cores"
        lines.append(
            f"| {each.rate:g} | {server} | {each.intake} | {each.judge} | {each.learn} | {each.partitions} "
            f"| {each.cost:,.0f} |"
        )
    return "\n".join(lines)


def written(page: str, text: str) -> str:
    """The page with the table between its marks. Raises ValueError where it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints or writes the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description="What a rate of uploads takes.")
    parser.add_argument("--rate", type=float, action="append", metavar="N", help="new uploads a second; repeatable")
    parser.add_argument("--core", type=float, default=25.0, help="assumed price of a core and month (default: 25)")
    parser.add_argument("--gpu", type=float, default=500.0, help="assumed price of a GPU and month (default: 500)")
    parser.add_argument("--gpu-images-s", type=float, help="what a GPU of yours judges a second; none was measured")
    parser.add_argument("--page", type=Path, help="write the table between this page's marks")
    chosen = parser.parse_args(arguments)
    known = measured(BENCHMARKS.read_text(encoding="utf-8"))
    text = table(chosen.rate or RATES, known, Prices(chosen.core, chosen.gpu, chosen.gpu_images_s))
    if chosen.page is None:
        print(text)
    else:
        chosen.page.write_text(written(chosen.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
