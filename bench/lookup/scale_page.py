"""The section of `docs/lookup.md` about cost: figures of some sizes in, Markdown out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench.lookup.drawn import COPY_DISTANCE, COPY_SIMILARITY
from bench.lookup.filled import ADDED
from bench.lookup.page import Setting, measured_by, table
from bench.lookup.scale import BOTH, GRAPH, GRAPHS, ONE_HASH, ONE_VECTOR, PDQ, TEN, VECTORS, Scale, Verification
from services.core.intake.regions import REGIONS, STORED

NONE = "-"  # where an index has no vectors
QUIET = 0.1  # share of the cores that may be busy with other work
BUSY = "Times are too large by what other work took; what was kept, disk and memory are not."
SEARCHES = (GRAPH, PDQ, VECTORS, BOTH, ONE_HASH, ONE_VECTOR)


def scale_section(rows: Sequence[Scale], verification: Verification, asked: int, setting: Setting) -> str:
    """What indexes of some sizes cost."""
    sizes = [f"{row.filling.originals:,}" + ("" if VECTORS in row.seconds else ", hashes alone") for row in rows]
    seen, unseen = (np.percentile(each, (50, 95)) * 1000 for each in (verification.seen, verification.unseen))
    return "\n\n".join(
        (
            "## What it costs",
            measured_by(setting) + ("" if setting.busy < QUIET else f" **{BUSY}**"),
            f"Each picture has one hash and, unless its column says otherwise, {STORED} vectors. "
            f"{asked} searches a size, one at a time, warm, by the "
            f"service's own clients and settings: a hash {COPY_DISTANCE} bits away, as it is and mirrored; "
            f"{len(REGIONS)} vectors, of which {STORED} have a cosine of {COPY_SIMILARITY:g} to the original's. The "
            f"plain queries ask for the {TEN} nearest of one hash, or one vector.",
            "### Time of a search",
            table(
                ("p50 / p95 / p99, ms", *sizes),
                [[name, *(_milliseconds(row.seconds.get(name)) for row in rows)] for name in SEARCHES],
            ),
            f"Verification of the first five on one core, beside that: {seen[0]:.0f} ms at the median, {seen[1]:.0f} "
            f"ms at the 95th percentile; {unseen[0]:.0f} and {unseen[1]:.0f} ms where the originals' local features "
            f"are not kept yet ({len(verification.seen)} uploads, 1024 x 683 pixels).",
            "### What the graphs miss",
            f"For the plain queries the share of the exact first {TEN} (computed beside the database, by looking at "
            "every row); for the clients the share of uploads whose original is among the six that they return.",
            table(("", *sizes), [[name, *(_share(row.kept.get(name)) for row in rows)] for name in _kept(rows)]),
            "### Filling",
            f"Loading is by COPY; graphs are built afterwards. {ADDED} pictures were then added one at a time, each "
            "committed. Of an index that an earlier run had filled (`--data`) these are that run's figures.",
            table(("", *sizes), [[name, *(cell(row) for row in rows)] for name, cell in FILLING]),
            "### Disk and memory",
            table(("", *sizes), _memory(rows)),
            "A process that keeps hashes in memory takes some 50 bytes for each besides.",
        )
    )


FILLING: tuple[tuple[str, Callable[[Scale], str]], ...] = (
    ("hashes loaded", lambda row: _s(row.filling.hashes_load_s)),
    ("graph of the hashes built", lambda row: _s(row.filling.hashes_build_s)),
    ("vectors loaded", lambda row: _s(row.filling.vectors_load_s)),
    ("graph of the vectors built", lambda row: _s(row.filling.vectors_build_s)),
    ("added afterwards, hash alone", lambda row: _rate(row.filling.hashes_added_per_s)),
    ("added afterwards, with vectors", lambda row: _rate(row.filling.both_added_per_s)),
    ("largest process while building", lambda row: _mb(row.filling.peak_bytes)),
)


def _memory(rows: Sequence[Scale]) -> list[list[str]]:
    parts = dict.fromkeys(part for row in rows for part in row.bytes_of)
    lines = [[part, *(_mb(row.bytes_of.get(part, 0)) for row in rows)] for part in parts]
    lines.append(["**disk, together**", *(_mb(sum(row.bytes_of.values())) for row in rows)])
    for name, part, each in (
        ("disk, bytes a picture", None, 1),
        ("graph, bytes a vector", GRAPHS[0], STORED),
        ("graph, bytes a hash", GRAPHS[1], 1),
    ):
        whole = (sum(row.bytes_of.values()) if part is None else row.bytes_of.get(part, 0) for row in rows)
        counts = ((row.filling.originals + ADDED) * each for row in rows)
        lines.append(
            [name, *(f"{size / count:,.0f}" if size else NONE for size, count in zip(whole, counts, strict=True))]
        )
    lines.append(["largest process while searching (VmHWM)", *(_mb(row.backend_bytes) for row in rows)])
    lines.append(["all processes while searching (PSS)", *(_mb(row.server_bytes) for row in rows)])
    lines.append(["reading all hashes into a process", *(_s(row.scan_read_s) for row in rows)])
    return lines


def _kept(rows: Sequence[Scale]) -> list[str]:
    return [name for name in SEARCHES if name in rows[0].kept]


def _milliseconds(seconds: Sequence[float] | None) -> str:
    if seconds is None:
        return NONE
    return " / ".join(f"{value * 1000:.1f}" for value in np.percentile(seconds, (50, 95, 99)))


def _share(share: float | None) -> str:
    return NONE if share is None else f"{share:.3f}"


def _rate(per_s: float | None) -> str:
    return NONE if per_s is None else f"{per_s:.0f}/s"


def _s(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:,.1f} s"


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
