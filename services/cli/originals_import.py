"""`pentimento originals import`: a whole library, from a manifest, and on from where it was stopped.

In: a CSV with a picture a row. Out: one `OriginalRegistered` event a row, sent in batches; each batch is waited for, so
that a library of any size neither fills the memory nor runs ahead of `intake`. A state file beside the manifest says
what the broker has, and a second run leaves that out.
"""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Annotated

import typer

from services.cli.connections import Door, opened_door
from services.cli.console import (
    DataOption,
    JsonOption,
    TenantOption,
    complain,
    fail,
    note,
    progress,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.manifest import BadRow, Row, SentRows, read_manifest
from services.cli.originals import facts, not_found, register_each, unread
from services.cli.originals_waiting import Registered, not_findable_within
from services.core.errors import Unavailable
from services.settings import Settings

BATCH = 200  # rows that are sent, and waited for, together


@dataclass(slots=True)
class Tally:
    """What became of the rows so far. `late`: sent, but not findable in time, so that the import stopped."""

    sent: int = 0
    before: int = 0
    bad: int = 0
    refused: int = 0
    late: int = 0


@dataclass(frozen=True, slots=True)
class Import:
    """How a manifest is imported. `timeout_s` None waits for nothing."""

    settings: Settings
    tenant: str
    timeout_s: float | None
    as_json: bool
    sent: SentRows
    tally: Tally


def import_manifest(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST", exists=True, dir_okay=False, help="CSV with path[,name][,source]; relative to the file."
        ),
    ],
    source: Annotated[str, typer.Option("--source", help="Who vouches for rows that name no source.")] = "library",
    tenant: TenantOption = "default",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for each batch until uploads can be compared with it.")
    ] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for a batch.")] = 120,
    again: Annotated[bool, typer.Option("--again", help="Send all rows, whatever an earlier run sent.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Register the pictures of a CSV as trusted originals. Stopped, the same command goes on where it was.

    What the broker has is noted in MANIFEST.done, and left out the next time. A bad row is reported with its line, and
    the rest goes on.

    Example: pentimento originals import library/manifest.csv --source agency
    """
    tally = Tally()
    settings = settings_of(data)
    rows = read_manifest(manifest, source=source)
    begun = list(islice(rows, 1))  # a header that does not fit is told before anything is opened
    try:
        with SentRows(manifest, again=again) as sent, progress() as bar:
            task = bar.add_task("registering", total=_rows_in(manifest))
            run = Import(settings, tenant, timeout_s if wait else None, as_json, sent, tally)
            asyncio.run(_import(run, chain(begun, rows), lambda: bar.advance(task)))
    except Unavailable as error:
        fail(f"{error}; {tally.sent} rows were sent, and the same command goes on with the others")
    _conclude(tally, as_json, timeout_s)


async def _import(run: Import, rows: Iterator[Row | BadRow], advance: Callable[[], None]) -> None:
    """Sends the rows, batch by batch, until one of them was waited for in vain. Raises Unavailable."""
    async with opened_door(run.settings) as door:
        while not run.tally.late and (batch := list(islice(rows, BATCH))):
            await _send(run, door, _fresh(run, batch, advance), advance)


def _fresh(run: Import, batch: list[Row | BadRow], advance: Callable[[], None]) -> list[Row]:
    """The rows that are to be sent: neither bad nor sent before."""
    fresh = []
    for row in batch:
        match row:
            case BadRow(line, why):
                _report_bad(run, line, why)
                advance()
            case Row() if row.key(run.tenant) in run.sent:
                run.tally.before += 1
                advance()
            case Row():
                fresh.append(row)
    return fresh


async def _send(run: Import, door: Door, rows: list[Row], advance: Callable[[], None]) -> None:
    def settled(number: int, outcome: Registered | OSError) -> None:
        row = rows[number]
        if isinstance(outcome, OSError):
            _report_bad(run, row.line, unread(row.picture, outcome))
        else:
            run.sent.add(row.key(run.tenant))
            run.tally.sent += 1
        advance()

    chosen = [(row.picture, row.source) for row in rows]
    outcomes = await register_each(door, chosen, tenant=run.tenant, settled=settled)
    registered = [
        (row.line, *outcome) for row, outcome in zip(rows, outcomes, strict=True) if not isinstance(outcome, OSError)
    ]
    missing: dict[str, str] = {}
    if run.timeout_s is not None and registered:
        began = time.monotonic()
        missing = await not_findable_within(run.settings, [event[1:] for event in registered], run.timeout_s)
        if time.monotonic() - began > run.timeout_s:
            run.tally.late += len(missing)
        else:
            run.tally.refused += len(missing)
    for line, event, _ in registered:
        if event.original_id in missing:
            complain(f"line {line}: {not_found(event.original_id, missing[event.original_id])}")
    if run.as_json:
        write_lines(
            {
                "line": line,
                **facts(event, digest, findable=run.timeout_s is not None and event.original_id not in missing),
            }
            for line, event, digest in registered
        )


def _report_bad(run: Import, line: int, why: str) -> None:
    run.tally.bad += 1
    complain(f"line {line}: {why}")
    if run.as_json:
        write_lines([{"line": line, "error": why}])


def _rows_in(manifest: Path) -> int:
    """How many records the manifest has at most, for the progress bar."""
    with manifest.open(newline="", encoding="utf-8", errors="replace") as opened:
        try:
            return max(0, sum(1 for _ in csv.reader(opened)) - 1)
        except csv.Error:
            return 0


def _conclude(tally: Tally, as_json: bool, timeout_s: float) -> None:
    """Says what became of the rows; exit status 1 where not all are registered."""
    if not as_json:
        cells = (tally.sent, tally.before, tally.bad, tally.refused + tally.late)
        write_table(("sent", "sent before", "bad rows", "not findable"), [[str(each) for each in cells]])
    elif tally.before:
        note(f"{tally.before} rows were sent by an earlier run; --again sends them once more")
    if tally.late:
        fail(
            f"stopped, because {tally.late} originals were sent but not findable after {timeout_s:g} s: see "
            "`pentimento status`; the same command then goes on with the rows that were not sent"
        )
    if failed := tally.bad + tally.refused:
        fail(f"{failed} rows were not registered: mend the bad rows and run the same command again")
