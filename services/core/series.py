"""Counts over time as a chart wants them: one row a kind, one column an hour or day, without holes.

In: what was counted, and the span. Out: `Series`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Every = Literal["hour", "day"]
STEPS: dict[Every, timedelta] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Series:
    """`starts` are the columns; `values[kind]` has a number for each of them, kinds in the order that was given."""

    starts: tuple[datetime, ...]
    values: dict[str, tuple[int, ...]]

    @property
    def total(self) -> int:
        """Everything that was counted."""
        return sum(sum(row) for row in self.values.values())


def columns(until: datetime, *, every: Every, count: int) -> tuple[datetime, ...]:
    """The begins of the last `count` hours or days (UTC) up to the one that `until` lies in, oldest first."""
    day = until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    last = day if every == "hour" else day.replace(hour=0)
    return tuple(last - STEPS[every] * back for back in reversed(range(count)))


def series(
    counted: Iterable[tuple[datetime, str, int]], starts: Sequence[datetime], kinds: Sequence[str], *, most: int = 8
) -> Series:
    """What was counted, laid out: the given kinds first, others by their size, and beyond `most` kinds one `other`."""
    rows: dict[str, dict[datetime, int]] = {kind: {} for kind in kinds}
    for start, kind, number in counted:
        row = rows.setdefault(kind, {})
        row[start] = row.get(start, 0) + number
    named = [kind for kind in rows if kind in kinds]
    others = sorted((kind for kind in rows if kind not in kinds), key=lambda kind: (-sum(rows[kind].values()), kind))
    kept = others[: max(0, most - len(named))]
    values = {kind: tuple(rows[kind].get(start, 0) for start in starts) for kind in (*named, *kept)}
    if rest := others[len(kept) :]:
        values["other"] = tuple(sum(rows[kind].get(start, 0) for kind in rest) for start in starts)
    return Series(tuple(starts), values)
