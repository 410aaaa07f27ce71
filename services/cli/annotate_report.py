"""The page that `annotate --report` writes: every pair in pictures, with what was said of it, in one file.

In: the folder of `results.py` and the files that the pairs name; no model is asked. Out: `report.html`, which needs
nothing else: pictures are `data:` URIs, and there are no scripts. It is written pair by pair, so that its size never
matters to memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from services.cli.annotate_pictures import AMPLIFIED, Figure, figures
from services.cli.annotator import Row, Setup
from services.cli.batch import BAD_FILE
from services.cli.console import progress
from services.cli.results import read_lines
from services.core.policy import Policy

REPORT = "report.html"
MOST_PICTURED = 500
"""Pairs that are shown in pictures: about 100 kB each, and a browser has to hold them all."""

KINDS = {
    "spg": "edited in place (spg)",
    "sdg": "an object of the original in another picture (sdg)",
    "unrelated": "unrelated",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair as the page shows it. `fate` is kept, dropped, error or open, `why` says it in words; `facts` are labels
    with values; `problem` says why there are no pictures, where there are none though there is a result."""

    number: int
    forged: str
    original: str
    fate: str
    why: str
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...] = ()
    problem: str | None = None


def write_report(folder: Path, rows: Sequence[Row], setup: Setup, *, most: int = MOST_PICTURED) -> Path:
    """Writes the page about these rows, in their order, the first `most` in pictures. Returns where it is.

    Raises OSError.
    """
    said = {(line.get("forged"), line.get("original")): line for line in read_lines(folder)}
    lines = [said.get((row["forged"], row["original"]), {}) for row in rows]
    pairs = [_pair(number, row, line) for number, (row, line) in enumerate(zip(rows, lines, strict=True), start=1)]
    values = {
        "summary": summary(lines, setup.policy),
        "total": len(rows),
        "most": most,
        "amplified": AMPLIFIED,
        "pictured": _pictured(pairs[:most], lines, folder, setup),
        "others": pairs[most:],
    }
    unfinished = folder / f".{REPORT}"
    _environment().get_template("annotate_report.html").stream(values).dump(str(unfinished), encoding="utf-8")
    return unfinished.replace(folder / REPORT)


def summary(lines: Sequence[Mapping[str, Any]], policy: Policy) -> list[tuple[str, str]]:
    """What the page says of all pairs, as labels with values. A line of {} is a pair without a result yet."""
    fates = [_fate(line)[0] for line in lines]
    kinds = [f"{label}: {sum(line.get('kind') == kind for line in lines)}" for kind, label in KINDS.items()]
    seconds = [line["seconds"] for line in lines if "seconds" in line]
    models = sorted({str(line["model"]) for line in lines if "model" in line})
    entries = [
        ("Pairs", str(len(lines))),
        ("Kinds", ", ".join(kinds)),
        ("Kept", f"{fates.count('kept')} (related, and a QES of {policy.least_qes:g} or more)"),
        ("Dropped", str(fates.count("dropped"))),
        ("Errors", str(fates.count("error"))),
        ("Without a result", str(fates.count("open"))),
        ("Median time", f"{median(seconds):.2f} s a pair" if seconds else "–"),
        ("Model", ", ".join(models) or "–"),
    ]
    return [entry for entry in entries if entry != ("Without a result", "0")]


def _pictured(pairs: Sequence[Pair], lines: Sequence[Mapping[str, Any]], folder: Path, setup: Setup) -> Iterator[Pair]:
    """The pairs with their pictures, made as the page comes to them."""
    with progress() as bar:
        task = bar.add_task("drawing the report", total=len(pairs))
        for pair, line in zip(pairs, lines, strict=False):
            yield _with_figures(pair, line, folder, setup) if pair.fate in ("kept", "dropped") else pair
            bar.advance(task)


def _with_figures(pair: Pair, line: Mapping[str, Any], folder: Path, setup: Setup) -> Pair:
    """Files can have gone since the run: then the pair says so instead."""
    try:
        return replace(pair, figures=figures(line, folder, setup))
    except BAD_FILE as error:
        return replace(pair, problem=f"Its pictures cannot be shown: {error}")


def _pair(number: int, row: Row, line: Mapping[str, Any]) -> Pair:
    fate, why = _fate(line)
    return Pair(number, row["forged"], row["original"], fate, why, _facts(line))


def _fate(line: Mapping[str, Any]) -> tuple[str, str]:
    """What became of a pair, and why."""
    if not line:
        return "open", "no result yet"
    if "error" in line:
        return "error", str(line["error"])
    if line.get("kind") == "unrelated":
        return "dropped", "the two have nothing in common"
    if not line.get("area", 1):
        empty = "nothing is flagged"
        return ("kept", empty) if line["kept"] else ("dropped", empty)
    said = f"its QES is {line['qes']:.2f}"
    return ("kept", said) if line["kept"] else ("dropped", f"{said}: the mask is not decisive")


def _facts(line: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The numbers of a line, as labels with values; a dash where the model did not need one."""
    if not line or "error" in line:
        return ()
    return (
        ("Kind", KINDS.get(line["kind"], str(line["kind"]))),
        ("Score", _number(line.get("score"), "{:.3f}")),
        ("QES", _number(line.get("qes"), "{:.3f}")),
        ("Flagged area", _number(line.get("area"), "{:.2%}")),
        ("Inliers", _number(line.get("inliers"), "{}")),
        ("Overlap", _number(line.get("overlap"), "{:.1%}")),
        ("Alignment explains", _number(line.get("confidence"), "{:.1%}")),
        ("Time", _number(line.get("seconds"), "{:.2f} s")),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("services.cli"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
