"""`pentimento verdicts`: what was decided, from the projection; and, followed, from the topic as it is decided.

In: filters. Out: a table, or verdict events as JSON lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Annotated

import typer
from rich.console import Console

from services.cli.connections import messages, opened_database
from services.cli.console import DataOption, JsonOption, note, settings_of, write_lines, write_table
from services.clients.cases import Cursor, VerdictFilter, Verdicts
from services.core import topology
from services.core.envelope import Undecodable, decode
from services.core.events import Decision, VerdictReached
from services.settings import Settings

COLUMNS = ("file", "decision", "path", "score", "area", "original", "reason")
LISTED = 50
PAGE = 200  # verdicts in one query
REMEMBERED = 10_000  # ids of verdicts, to know a repeated delivery by


def verdict_cells(verdict: VerdictReached) -> tuple[str, ...]:
    """A verdict as a row below COLUMNS."""
    return (
        verdict.filename or verdict.upload_id,
        verdict.decision.value,
        verdict.path.value,
        "" if verdict.score is None else f"{verdict.score:.2f}",
        "" if verdict.mask is None else f"{verdict.mask.area:.1%}",
        verdict.candidate.original_id if verdict.candidate else "",
        " ".join([*(reason.text for reason in verdict.reasons), *_noted(verdict)]),
    )


def _noted(verdict: VerdictReached) -> list[str]:
    """The verdict's notes in brackets, if it has any."""
    return [f"({', '.join(verdict.notes)})"] if verdict.notes else []


def write_verdicts(verdicts: Sequence[VerdictReached], *, as_json: bool) -> None:
    """Verdicts to stdout."""
    if as_json:
        write_lines(verdict.model_dump(mode="json", exclude_none=True) for verdict in verdicts)
    else:
        write_table(COLUMNS, (verdict_cells(verdict) for verdict in verdicts))


def verdicts(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new verdicts as they are reached.")
    ] = False,
    decision: Annotated[list[Decision] | None, typer.Option("--decision", help="Only these; repeatable.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="How many at most: 50, or without end when following.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List verdicts, newest first; or follow them.

    Example: pentimento verdicts --decision manipulated --limit 20
    """
    settings = settings_of(data)
    wanted = tuple(decision) if decision else None
    if follow:
        asyncio.run(_follow(settings, wanted, tenant, limit, as_json))
    else:
        write_verdicts(
            asyncio.run(_listed(settings, VerdictFilter(tenant=tenant, decisions=wanted), limit or LISTED)),
            as_json=as_json,
        )


async def _listed(settings: Settings, chosen: VerdictFilter, limit: int) -> list[VerdictReached]:
    """The newest verdicts, page by page."""
    found: list[VerdictReached] = []
    async with opened_database(settings) as database:
        while len(found) < limit:
            before = Cursor.after(found[-1]) if found else None
            page = await Verdicts(database).find(chosen, limit=min(PAGE, limit - len(found)), before=before)
            if not page:
                break
            found += page
    return found


async def _follow(
    settings: Settings, decisions: Sequence[Decision] | None, tenant: str | None, limit: int | None, as_json: bool
) -> None:
    """Writes new verdicts until `limit` of them came or somebody presses Ctrl-C."""
    note(f"following {topology.VERDICTS}; Ctrl-C ends")
    write = _line_writer(as_json)
    shown = 0
    async with aclosing(new_verdicts(settings)) as arriving:
        async for verdict in arriving:
            if (decisions and verdict.decision not in decisions) or (tenant and verdict.tenant != tenant):
                continue
            write((verdict,))
            shown += 1
            if shown == limit:
                return


async def new_verdicts(settings: Settings) -> AsyncGenerator[VerdictReached, None]:
    """Verdicts from now on, each id once however often it is delivered. Messages of other kinds are left out."""
    seen: dict[str, None] = {}
    async with aclosing(messages(settings, topology.VERDICTS, from_beginning=False)) as arriving:
        async for message in arriving:
            try:
                verdict = decode(message, VerdictReached)
            except Undecodable as why:
                note(f"skipped {message.topic}/{message.partition}/{message.offset}: {why}")
                continue
            if verdict.event_id() not in seen:
                seen[verdict.event_id()] = None
                if len(seen) > REMEMBERED:
                    del seen[next(iter(seen))]
                yield verdict


def _line_writer(as_json: bool) -> Callable[[Iterable[VerdictReached]], None]:
    if as_json:
        return lambda verdicts: write_lines(each.model_dump(mode="json", exclude_none=True) for each in verdicts)
    console = Console()

    def write(verdicts: Iterable[VerdictReached]) -> None:
        for verdict in verdicts:
            console.print("  ".join(cell for cell in verdict_cells(verdict) if cell), soft_wrap=True, markup=False)

    return write
