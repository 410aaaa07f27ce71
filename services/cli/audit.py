"""`pentimento audit`: who saw and did what, from the command line.

In: filters. Out: entries, newest first, as a table, JSON lines or CSV, all of them where no limit is set.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, settings_of, write_lines, write_table, wrong_use
from services.cli.people import operator
from services.clients.audit import COLUMNS, Audit, AuditFilter, Entry
from services.core.spreadsheet import csv_line
from services.settings import Settings

READ = 1000  # entries of one statement

Moment = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC.")]


def audit(  # noqa: PLR0913, PLR0917 - a filter for each
    subject: Annotated[str | None, typer.Option("--by", help="Only what this person or token did.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this, such as `picture_viewed`.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only about uploads of this tenant.")] = None,
    upload: Annotated[str | None, typer.Option("--upload", help="Only about this upload.")] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Entries at most; 0: all of them.")] = 50,
    as_json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write CSV instead of a table.")] = False,
    data: DataOption = None,
) -> None:
    """Show the audit log, newest first: sign-ins, views of pictures, decisions, changes of administrators.

    Example: pentimento audit --action picture_viewed --tenant acme --since 2026-11-01 --csv --limit 0
    """
    if as_json and csv:
        raise wrong_use("--json and --csv: choose one")
    chosen = AuditFilter(
        subject=subject,
        action=action,
        tenant=tenant,
        upload_id=upload,
        since=None if since is None else since.replace(tzinfo=UTC),
        until=None if until is None else until.replace(tzinfo=UTC),
    )
    asyncio.run(_show(settings_of(data), chosen, limit or None, "json" if as_json else "csv" if csv else "table"))


async def _show(settings: Settings, chosen: AuditFilter, limit: int | None, form: str) -> None:
    async with opened_database(settings) as database:
        log = Audit(database)
        if form == "table":
            rows = [_cells(each) async for each in _entries(log, chosen, limit)]
            write_table(("when", "who", "what", "tenant", "upload", "details"), rows)
            return
        asked = {
            name: str(value) for name, value in asdict(chosen).items() if value is not None and name != "upload_id"
        }
        await log.record(operator(), "audit_exported", details=asked)
        if form == "csv":
            sys.stdout.write(csv_line(COLUMNS))
        async for entry in _entries(log, chosen, limit):
            if form == "csv":
                sys.stdout.write(csv_line(entry.cells()))
            else:
                write_lines([asdict(entry) | {"at": entry.at.astimezone(UTC).isoformat()}])


async def _entries(log: Audit, chosen: AuditFilter, limit: int | None) -> AsyncIterator[Entry]:
    before, left = None, limit
    while left is None or left > 0:
        size = READ if left is None else min(READ, left)
        found = await log.find(chosen, limit=size, before=before)
        for entry in found:
            yield entry
        if len(found) < size:
            return
        before, left = found[-1].id, None if left is None else left - size


def _cells(entry: Entry) -> tuple[str, ...]:
    details = ", ".join(f"{name}: {value}" for name, value in entry.details.items())
    when = f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return (when, entry.subject, entry.action, entry.tenant or "", entry.upload_id or "", details)
