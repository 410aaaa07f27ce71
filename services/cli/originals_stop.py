"""`pentimento originals stop-list`: pictures that lookup passes over, because they say too little.

In: a tenant, an original's id, an entry's number. Out: the entries as a table or JSON lines, one more, or one less.
"""

from __future__ import annotations

import asyncio
from datetime import UTC
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, TenantOption, fail, note, settings_of, write_lines, write_table
from services.clients.stoplist import StopEntry, StopList
from services.opening import stop_rules
from services.settings import Settings

COLUMNS = ("entry", "reason", "for", "pictures", "distance", "since", "note")

stop_list = typer.Typer(help="Pictures that lookup passes over: list, add, remove.", no_args_is_help=True)


@stop_list.command("list")
def list_entries(
    tenant: TenantOption = "default",
    everything: Annotated[bool, typer.Option("--all", help="Also entries that were removed.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List a tenant's entries, those that stop most pictures first. Times are UTC.

    flat: pictures without content. crowded: a neighbourhood of too many originals, or of too many earlier uploads.
    manual: what you added. A crowded or manual picture is still found for a near copy of it, and every picture for its
    very bytes.

    Example: pentimento originals stop-list list --json
    """
    settings = settings_of(data)
    entries = asyncio.run(_entries(settings, tenant, everything))
    if as_json:
        write_lines(_as_json(each) for each in entries)
        return
    write_table(COLUMNS, (_cells(each) for each in entries))
    note(f"{len(entries)} entries of tenant {tenant} stop {sum(each.pictures for each in entries)} pictures")


@stop_list.command()
def add(
    original_id: Annotated[str, typer.Argument(metavar="ID", help="An id, as `originals list` shows it.")],
    distance: Annotated[
        int | None,
        typer.Option("--distance", min=0, max=256, help="PDQ distance up to which pictures are stopped with it."),
    ] = None,
    text: Annotated[str, typer.Option("--note", help="Why, for whoever looks at the list.")] = "",
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Stop an original and what looks like it, such as a logo. Without --distance: as far as a crowd reaches.

    Example: pentimento originals stop-list add logo-0f3a5b7c9d1e --note "our own logo"
    """
    settings = settings_of(data)
    radius = settings.stop_list.crowd_distance if distance is None else distance
    entry = asyncio.run(_added(settings, tenant, original_id, radius, text))
    if entry is None:
        fail(
            f"tenant {tenant} has no trusted original {original_id} with a hash to go by (a flat one is stopped anyway)"
        )
    if as_json:
        write_lines([_as_json(entry)])
    else:
        note(f"entry {entry.id} stops {entry.pictures} pictures")


@stop_list.command()
def remove(
    entry_id: Annotated[int, typer.Argument(metavar="ENTRY", min=1, help="An entry, as `stop-list list` shows it.")],
    tenant: TenantOption = "default",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let an entry's pictures be found again. The same entry is not made again by itself.

    Example: pentimento originals stop-list remove 12
    """
    released = asyncio.run(_removed(settings_of(data), tenant, entry_id))
    if released is None:
        fail(f"tenant {tenant} has no entry {entry_id}: see `pentimento originals stop-list list --tenant {tenant}`")
    if as_json:
        write_lines([{"entry": entry_id, "tenant": tenant, "pictures": released, "removed": True}])
    else:
        note(f"entry {entry_id} was removed; {released} pictures are found again")


async def _entries(settings: Settings, tenant: str, lifted: bool) -> list[StopEntry]:
    async with opened_database(settings) as database:
        return await StopList(database, stop_rules(settings.stop_list)).entries(tenant, lifted=lifted)


async def _added(settings: Settings, tenant: str, original_id: str, radius: int, text: str) -> StopEntry | None:
    async with opened_database(settings) as database:
        return await StopList(database, stop_rules(settings.stop_list)).add(
            tenant, original_id, radius=radius, note=text
        )


async def _removed(settings: Settings, tenant: str, entry_id: int) -> int | None:
    async with opened_database(settings) as database:
        return await StopList(database, stop_rules(settings.stop_list)).lift(tenant, entry_id)


def _kind(entry: StopEntry) -> str:
    return "all" if entry.trusted is None else "originals" if entry.trusted else "uploads"


def _cells(entry: StopEntry) -> tuple[str, ...]:
    reach = "" if entry.radius is None else str(entry.radius)
    since = f"{entry.created_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    said = f"removed. {entry.note}".strip() if entry.lifted else entry.note
    return (str(entry.id), entry.reason, _kind(entry), str(entry.pictures), reach, since, said)


def _as_json(entry: StopEntry) -> dict[str, object]:
    return {
        "entry": entry.id,
        "tenant": entry.tenant,
        "reason": entry.reason,
        "for": _kind(entry),
        "pictures": entry.pictures,
        "seen": entry.seen,
        "pdq": entry.pdq,
        "distance": entry.radius,
        "note": entry.note,
        "removed": entry.lifted,
        "created_at": entry.created_at.astimezone(UTC).isoformat(),
    }
