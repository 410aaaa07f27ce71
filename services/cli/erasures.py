"""A whole tenant erased (`pentimento erase --tenant`), and erasures done again after a restore: `pentimento erasures`.

In: a tenant and its name once more, or a list of earlier erasures. Out: what went from which store, and what is left.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    fail,
    note,
    progress,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.cli.people import operator
from services.cli.retain import report
from services.clients.audit import Audit
from services.clients.erasure_tenant import Again
from services.opening import open_objects
from services.retaining import Removed, erase_again, erase_tenant
from services.settings import Settings

erasures = typer.Typer(help="Erasures so far: list them, and do them again after a restore.", no_args_is_help=True)


def whole_tenant(settings: Settings, tenant: str, confirm: str | None, by: str, *, as_json: bool) -> None:
    """Erase a tenant, once its name was given a second time."""
    if confirm is None and sys.stdin.isatty():
        confirm = typer.prompt(f"All of tenant {tenant} will be erased for good. Its name again, to go on", err=True)
    if confirm != tenant:
        raise wrong_use(f"nothing was erased: to erase all of tenant {tenant}, say --confirm with its very name")
    _show({tenant: asyncio.run(_tenant(settings, tenant, by))}, as_json=as_json)


@erasures.command("list")
def list_erasures(data: DataOption = None) -> None:
    """Write what was erased so far, as JSON lines: tenant, mark, time. It names no picture; keep it beside backups.

    Example: pentimento erasures list
    """
    write_lines(asyncio.run(_listed(settings_of(data))))


@erasures.command()
def again(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `erasures list` wrote, as late as you have it.")],
    by: Annotated[str | None, typer.Option("--by", help="Who erases, for the record; else the user's name.")] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """After a restore: erase once more what a newer list says. What this database knows of already is left alone.

    Example: pentimento erasures again erasures.jsonl
    """
    try:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        fits = all({"tenant", "mark", "erased_at"} <= each.keys() for each in found)
    except (OSError, ValueError, AttributeError) as error:
        raise wrong_use(f"{file} cannot be read: {error}") from error
    if not fits:
        raise wrong_use(f"{file} is no list of erasures: `pentimento erasures list` writes one")
    _show(asyncio.run(_again(settings_of(data), found, by or getpass.getuser())), as_json=as_json)


async def _listed(settings: Settings) -> list[dict[str, str]]:
    async with opened_database(settings) as database:
        return await Again(database).listed()


async def _tenant(settings: Settings, tenant: str, by: str) -> Removed:
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            with progress() as bar:
                task = bar.add_task(tenant, total=None)
                went = await erase_tenant(
                    database, objects, tenant=tenant, by=by, told=lambda count: bar.advance(task, count)
                )
            done = {"pictures": went.done["pictures"], "rows": went.rows.total(), "left": len(went.left)}
            await Audit(database).record(operator(), "tenant_erased", tenant=tenant, details=done)
            return went
    finally:
        objects.close()


async def _again(settings: Settings, found: list[dict[str, str]], by: str) -> dict[str, Removed]:
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            with progress() as bar:
                task = bar.add_task("erasing again", total=None)
                return await erase_again(
                    database, objects, erasures=found, by=by, told=lambda count: bar.advance(task, count)
                )
    finally:
        objects.close()


def _show(went: dict[str, Removed], *, as_json: bool) -> None:
    lines: list[dict[str, Any]] = [
        {"tenant": tenant, "pictures": removed.done["pictures"], **report(removed)} for tenant, removed in went.items()
    ]
    if as_json:
        write_lines(lines)
    else:
        write_table(("tenant", "where", "what"), (row for line in lines for row in _rows(line)))
    for line in lines:
        if line["shared"]:
            note(f"{line['shared']} pictures of {line['tenant']} are another tenant's, too: their bytes stay for them")
        if line["left"]:
            fail(f"of tenant {line['tenant']} there still are {', '.join(line['left'][:5])}: do it again")


def _rows(line: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What went, store by store."""
    name = line["tenant"]
    rows = [(name, "pictures", str(line["pictures"]))]
    rows += [(name, f"database: {table}", f"{count} rows") for table, count in line["rows"].items()]
    rows += [(name, f"object store: {prefix}", f"{count} objects") for prefix, count in line["objects"].items()]
    return rows + [(name, "dataset version", f"{version}, marked as erased") for version in line["versions"]]
