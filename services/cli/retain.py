"""`pentimento retain`: what is past its time removed, as the settings of retention say. Without `--yes` only counted.

In: settings, and tenants or all. Out: a line for each tenant. Stopped at any moment, the same command does the rest.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, note, progress, settings_of, write_lines, write_table
from services.cli.people import operator
from services.clients.audit import Audit
from services.clients.database import Database
from services.clients.objects import Objects
from services.clients.retention import Due, Retention
from services.core.retention import Cutoffs, cutoffs
from services.opening import open_objects
from services.retaining import Removed
from services.retaining import retain as removed
from services.settings import Settings

KINDS = ("pictures", "masks", "verdicts")


def retain(
    tenant: Annotated[list[str] | None, typer.Option("--tenant", help="This one; several times for several.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it; else it is only counted.")] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10_000, help="So many at once.")] = 100,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Remove pictures, masks and verdicts that are older than PENTIMENTO_RETENTION__... allows. First it only counts.

    Trusted originals stay until they are removed, and so do the audit log and frozen dataset versions but for what they
    hold of a picture that goes. Stopped in between, the same command does the rest.

    Examples: `pentimento retain`, `pentimento retain --tenant acme --yes --json`
    """
    settings = settings_of(data)
    lines = asyncio.run(_all(settings, tenant, batch=batch, really=yes))
    if as_json:
        write_lines(lines)
    else:
        write_table(("tenant", *KINDS), ([line["tenant"], *(str(line[kind]) for kind in KINDS)] for line in lines))
        note("removed" if yes else "nothing was removed: --yes does it")


async def _all(settings: Settings, tenants: list[str] | None, *, batch: int, really: bool) -> list[dict[str, Any]]:
    objects, now = open_objects(settings.objects), datetime.now(UTC)
    try:
        async with opened_database(settings) as database:
            lines = []
            for each in tenants or await Retention(database).tenants():
                before = cutoffs(settings.retention.of(each), now)
                due = await Retention(database).due(each, before)
                line: dict[str, Any] = {"tenant": each, "removed": really, **asdict(due)}
                if really and before.anything:
                    line |= await _removed(database, objects, each, before, due, batch)
                lines.append(line)
            return lines
    finally:
        objects.close()


async def _removed(
    database: Database, objects: Objects, tenant: str, before: Cutoffs, due: Due, batch: int
) -> dict[str, Any]:
    with progress() as bar:
        task = bar.add_task(tenant, total=sum(asdict(due).values()))
        went = await removed(
            database, objects, tenant=tenant, before=before, batch=batch, told=lambda count: bar.advance(task, count)
        )
    kinds = {kind: went.done[kind] for kind in KINDS}
    if any(kinds.values()):
        await Audit(database).record(operator(), "retention_applied", tenant=tenant, details=kinds)
    return {**kinds, **report(went)}


def report(went: Removed) -> dict[str, Any]:
    """What went from which store, for a line of JSON."""
    return {
        "rows": dict(sorted(went.rows.items())),
        "objects": {prefix: count for prefix, count in sorted(went.objects.items()) if count},
        "versions": sorted(went.versions),
        "shared": went.shared,
        "left": went.left,
    }
