"""The page `docs/lookup.md`: what was measured of lookup, as Markdown. Pure but for `write`.

In: rows of `recall` or `scale`. Out: a section of the page each, which leaves the other one as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.lookup.changes import DONOR
from bench.lookup.methods import PLACES, VERIFIED, WORD_PLACES
from bench.lookup.recall import NOBODY, Sought

HEAD = (
    "# Lookup, measured\n\nWhether an upload's original is found and confirmed, and what the index costs. "
    "`make bench-lookup` repeats both; how it goes on from here to a billion pictures is arithmetic, in "
    "[scaling](scaling.md).\n"
)
SECTIONS = ("recall", "scale", "words")
ROUNDS = 2000  # of the bootstrap
SHOWN = 12  # strangers that are named


@dataclass(frozen=True, slots=True)
class Setting:
    """When, where, by which command and on which data something was measured; `busy` is the share of the cores, 0..1,
    that other work kept busy when it began."""

    date: str
    machine: str
    command: str
    data: str
    busy: float


def write(section: str, text: str, target: Path | None) -> None:
    """Puts a section into the page, or onto stdout where there is none."""
    if target is None:
        print(text)
    else:
        before = target.read_text(encoding="utf-8") if target.is_file() else ""
        target.write_text(replaced(before, section, text), encoding="utf-8")


def replaced(page: str, section: str, text: str) -> str:
    """The page with one of its `SECTIONS` anew; what another one says is kept."""
    kept = {name: _between(page, name) for name in SECTIONS} | {section: text.strip()}
    parts = [f"<!-- {name} -->\n\n{kept[name]}\n\n<!-- /{name} -->\n" for name in SECTIONS if kept[name]]
    return "\n".join((HEAD, *parts))


def recall_section(rows: Sequence[Sought], setting: Setting) -> str:
    """What is found, by kind of change."""
    methods = list(dict.fromkeys(row.method for row in rows))
    known = [row for row in rows if row.wanted is not None]
    return "\n\n".join(
        (
            "## What is found",
            measured_by(setting),
            "Uploads are made from photographs that no network was fitted on (split `test`). Where an area is edited, "
            "a stranger's pixels fill it; where an object is taken (*donor object*), it is pasted into a stranger, and "
            "the photograph that it was taken from is the one wanted. A stranger is a photograph that is not in the "
            f"index. Every upload is a JPEG of quality 85 unless its row says another. Methods: {_methods(methods)}. "
            "Distances are exact here; what HNSW loses against them stands under *What it costs*. Intervals are 95 %, "
            f"by bootstrap over photographs ({ROUNDS} rounds).",
            "### Found, before verification",
            "Share of uploads whose original is the first found, and is among the first ten.",
            table(("change", "uploads", *(f"{m} @{k}" for m in methods for k in (1, 10))), _lines(known, _found)),
            "### Named, after verification",
            f"Geometry verifies the first {VERIFIED} found ({VERIFIED + WORD_PLACES} with words) and ranks what it "
            "confirms, as the service does. *Recall@1* is the share of uploads whose original is ranked first; "
            "*precision* the share of right ones among "
            "those first ranked (`-`: none was confirmed).",
            table(
                ("change", *(f"{method}, {what}" for method in methods for what in ("recall@1", "precision"))),
                ([line[0], *line[2:]] for line in _lines(known, _named)),
            ),
            "### Uploads without an original",
            _strangers([row for row in rows if row.wanted is None], methods),
        )
    )


def interval(by_photo: Iterable[Sequence[bool]], *, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of a share; photographs are drawn, each with all its uploads."""
    counts = np.array([(sum(each), len(each)) for each in by_photo], np.float64)
    drawn = np.random.default_rng(seed).integers(len(counts), size=(ROUNDS, len(counts)))
    sums = counts[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
    return float(low), float(high)


def measured_by(setting: Setting) -> str:
    where = f"{setting.machine}, {setting.busy:.0%} busy with other work"
    return f"Written by `{setting.command}` on {setting.date}: {where}. {setting.data}"


def _methods(names: Sequence[str]) -> str:
    said = {
        "PDQ": "*PDQ* alone, within 90 bits, as it is and mirrored",
        "embedding": "the *embedding* alone, 14 regions of the upload against 5 of each original",
        "both": f"*both*, {PLACES} of {VERIFIED} places kept for what only the embedding finds",
        "words": f"PDQ and visual *words*: {WORD_PLACES} more places for what only words find (the default)",
    }
    return "; ".join(said[name] for name in names) + (
        "" if "both" in names else "; no weights of the embedder were there when this was written"
    )


def _lines(rows: Sequence[Sought], cells: Callable[[Sequence[Sought]], list[str]]) -> list[list[str]]:
    """A line a change, then one for all but donor objects, and one for those."""
    groups = {row.change: [each for each in rows if each.change == row.change] for row in rows}
    groups["**whole picture, all kinds**"] = [row for row in rows if row.group != DONOR]
    groups["**donor object, all sizes**"] = [row for row in rows if row.group == DONOR]
    lines = []
    for name, members in groups.items():
        if members:
            methods = _by_method(members)
            uploads = len(next(iter(methods.values())))
            lines.append([name, str(uploads), *(cell for each in methods.values() for cell in cells(each))])
    return lines


def _found(rows: Sequence[Sought]) -> list[str]:
    first = [row.place == 1 for row in rows]
    ten = [row.place is not None for row in rows]
    return [_percent(first), _percent(ten)]


def _named(rows: Sequence[Sought]) -> list[str]:
    named = [row.right for row in rows if row.first is not None]
    return [_share(rows, lambda row: row.right), _percent(named)]


def _strangers(rows: Sequence[Sought], methods: Sequence[str]) -> str:
    """How many uploads without a registered original have a verified candidate all the same, and which."""
    if not rows:
        return "None were looked up."
    lines = []
    for change in dict.fromkeys(row.change for row in rows):
        by_method = _by_method([row for row in rows if row.change == change])
        uploads = len(next(iter(by_method.values())))
        lines.append(
            [change, str(uploads), *(_share(each, lambda row: bool(row.others)) for each in by_method.values())]
        )
    shares = table(("change", "uploads", *methods), lines)
    pairs = sorted({f"`{row.photo}`: `{row.first}`" for row in rows if row.first is not None})
    named = f" ({', '.join(pairs[:SHOWN])}{', ...' if len(pairs) > SHOWN else ''})" if pairs else ""
    return (
        f"Share of uploads made from {len({row.photo for row in rows})} photographs that are not in the index "
        f"(*{NOBODY}*) for which geometry confirms any candidate. All would be wrong, were no photograph there twice: "
        f"{len(pairs) or 'no'} pairs were confirmed{named}.\n\n{shares}"
    )


def _by_method(rows: Sequence[Sought]) -> dict[str, list[Sought]]:
    found: dict[str, list[Sought]] = defaultdict(list)
    for row in rows:
        found[row.method].append(row)
    return found


def _share(rows: Sequence[Sought], holds: Callable[[Sought], bool]) -> str:
    """A share with its interval."""
    by_photo: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_photo[row.photo].append(holds(row))
    low, high = interval(by_photo.values())
    return f"{_percent([holds(row) for row in rows])} [{low:.0%}, {high:.0%}]"


def _percent(values: Sequence[bool]) -> str:
    return f"{np.mean(values):.0%}" if values else "-"


def _between(page: str, name: str) -> str:
    _, found, rest = page.partition(f"<!-- {name} -->")
    return rest.partition(f"<!-- /{name} -->")[0].strip() if found else ""


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
