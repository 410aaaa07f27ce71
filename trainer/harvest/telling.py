"""What a harvest tells on stdout: what it would do, and what it did; tables, or one line of JSON.

In: rows before a run, or the statistics after it. Out: text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.clients.fetch import Fetcher
from services.core.errors import Rejected
from trainer.harvest.fetching import key_of
from trainer.harvest.journal import Journal
from trainer.harvest.rows import FATES, Row
from trainer.harvest.sources import Source


def intended(rows: list[Row], pool: list[Source], fetcher: Fetcher, state: Path, *, as_json: bool) -> None:
    """Says what a run would fetch. Nothing is asked or written."""
    sources = {key_of(source): source for source in chain(*(row.sources() for row in rows), pool)}
    done = _done(state, sources)
    hosts = Counter(
        _host(fetcher, source) for key, source in sources.items() if source.file is None and key not in done
    )
    figures = {
        "rows": len(rows),
        "bad_rows": sum(row.fate == "bad_row" for row in rows),
        "pictures": len(sources),
        "files": sum(source.file is not None for source in sources.values()),
        "already_here": len(done),
        "to_fetch_by_host": dict(hosts.most_common()),
    }
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
        return
    hosts_told = {f"to fetch from {host}": number for host, number in hosts.most_common()}
    _table(("what", "number"), chain(((n.replace("_", " "), v) for n, v in figures.items() if n != "to_fetch_by_host"),
                                     hosts_told.items()))  # fmt: skip


def told(figures: Mapping[str, Any], page: Path, *, as_json: bool) -> None:
    """Says what became of all rows, and how fast each stage went."""
    if as_json:
        print(json.dumps({**figures, "page": str(page)}, ensure_ascii=False))
        return
    _table(
        ("rows", "number", "what it means"),
        [
            ("found", figures["rows"], "rows of the list"),
            *((f, n, FATES[f]) for f, n in figures["fates"].items()),
        ],
    )
    _table(
        ("stage", "done", "seconds", "an hour"),
        [(name, each["done"], each["seconds"], each["per_hour"] or "–") for name, each in figures["stages"].items()],
    )
    print(f"look at {page}")


def _done(state: Path, keys: Iterable[str]) -> set[str]:
    file = state / "fetched.jsonl"
    if not file.is_file():
        return set()
    with Journal(file) as journal:
        return {key for key in keys if (journal.get(key) or {}).get("state") == "fetched"}


def _host(fetcher: Fetcher, source: Source) -> str:
    host = source.place.split("/")[2].rpartition("@")[2]
    try:
        fetcher.check(source.place)
    except Rejected:
        return f"{host} (not allowed)"
    return host


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    table = Table(header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    console.print(table, crop=False)
