"""What the pages of figures share: how a run is named, bins of area, Markdown tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

AREAS = ((0.0, 0.01, "< 1 %"), (0.01, 0.05, "1-5 %"), (0.05, 0.2, "5-20 %"), (0.2, 1.01, "> 20 %"))
"""From, to (excluded) and name of each bin of the forged share of a picture."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What was run, where and when."""

    date: str
    machine: str
    version: str
    policy: str
    command: str


def bin_name(bins: Sequence[tuple[float, float, str]], value: float) -> str:
    """The name of the bin that a value falls into. Raises StopIteration where it falls into none."""
    return next(name for low, high, name in bins if low <= value < high)


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table with an empty line after it."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"
