"""The rows of a harvest and what became of each: exactly one fate.

In: what the stages found out. Out: rows that are open, or have a fate with its reason. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.harvest.journal import Facts
from trainer.harvest.sources import BadRow, Pair, Source

FATES = {
    "kept": "annotated, decisive",
    "not_decisive": "annotated, but QES is too low",
    "unchanged": "annotated: nothing differs",
    "unrelated": "annotated: not a pair",
    "unpaired": "no original found in the pool",
    "duplicate": "the same pair, or nearly, as an earlier one",
    "robots": "robots.txt forbids it",
    "not_allowed": "its host or address is not allowed",
    "failed": "not there, or no picture",
    "postponed": "the host was away; worth another run",
    "bad_row": "the row cannot be used",
}
"""Every fate, best first, in words."""


@dataclass(slots=True)
class Row:
    """A pair on its way; `pair` is None where the list's row is bad. `fate` is one of FATES, "" while it is open.

    `forged` and `original` are what is known of the pictures: where they came from, and what they look like;
    `annotation` what the pair model said.
    """

    line: int
    pair: Pair | None
    fate: str = ""
    why: str = ""
    forged: Facts = field(default_factory=dict)
    original: Facts = field(default_factory=dict)
    annotation: Facts = field(default_factory=dict)

    def settle(self, fate: str, why: str) -> None:
        """Gives the row its fate."""
        self.fate, self.why = fate, why

    def known_of(self, source: Source) -> Facts:
        """What is known of one of its two pictures."""
        return self.forged if self.pair is not None and source is self.pair.forged else self.original

    def learn(self, source: Source, facts: Facts) -> None:
        """Takes in what was found out about one of its two pictures."""
        self.known_of(source).update(facts)

    def original_found(self, source: Source, facts: Facts) -> None:
        """Takes in the original that a pool holds for it, with what is known of that."""
        if self.pair is not None:
            self.pair = replace(self.pair, original=source)
            self.original.update(facts)

    def sources(self) -> Iterator[Source]:
        """The pictures that are to be fetched for it."""
        if self.pair is not None:
            yield self.pair.forged
            if self.pair.original is not None:
                yield self.pair.original

    @property
    def contents(self) -> tuple[str, str]:
        """The SHA-256 of the forged picture and of its original; of an open row whose original is known."""
        return self.forged["sha256"], self.original["sha256"]


def row_of(entry: Pair | BadRow) -> Row:
    """A list's row as it begins."""
    if isinstance(entry, BadRow):
        return Row(entry.line, None, "bad_row", entry.why)
    return Row(entry.line, entry)


def opened(rows: Iterable[Row]) -> list[Row]:
    """Those that have no fate yet."""
    return [row for row in rows if not row.fate]


def settle_repeats(rows: Iterable[Row]) -> None:
    """Of open rows with the same two contents the first stays open; a forgery that is its original never does."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.contents[0] == row.contents[1]:
            row.settle("unchanged", "the forged picture and its original are the same file")
        elif (other := first.setdefault(row.contents, row)) is not row:
            row.settle("duplicate", f"the same files as row {other.line}")


def settle_copies(rows: Iterable[Row], copies: dict[str, str]) -> None:
    """Rows of one original: those whose forged picture is nearly another one's are settled."""
    lines = {row.forged["sha256"]: row.line for row in rows}
    for row in rows:
        if (other := copies.get(row.forged["sha256"])) is not None:
            row.settle("duplicate", f"nearly the same picture as row {lines[other]}, of the same original")


def settle_annotated(row: Row, said: Facts) -> None:
    """The fate that an annotation gives a row."""
    row.annotation = said
    if said["kept"]:
        row.settle("kept", f"QES {said['qes']:.3f}")
    elif said["kind"] == "unrelated":
        row.settle("unrelated", "the two have nothing in common")
    elif not said["area"]:
        row.settle("unchanged", "nothing differs between the two")
    else:
        row.settle("not_decisive", f"QES {said['qes']:.3f} does not exceed {said['least_qes']:g}")


def count(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows came to each fate; every fate is named."""
    found = Counter(row.fate for row in rows)
    return {fate: found[fate] for fate in FATES}


def provenance(row: Row) -> dict[str, Any]:
    """Where both pictures of a row come from and under which licence, as JSON values; null where nobody says."""
    said: dict[str, Any] = {"row": row.line}
    if row.pair is None:
        return said
    for side, source, facts in (("", row.pair.forged, row.forged), ("original_", row.pair.original, row.original)):
        if source is None:
            continue
        said |= {
            f"{side}url": source.place,
            f"{side}licence": source.licence or None,
            f"{side}author": source.author or None,
            f"{side}page": source.page or None,
            f"{side}sha256": facts.get("sha256"),
            f"{side}fetched_at": facts.get("at"),
        }
        if facts.get("url", source.place) not in ("", source.place):
            said[f"{side}fetched_from"] = facts["url"]
    return said
