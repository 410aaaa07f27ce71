"""`pentimento originals list` and `remove`: what the trusted libraries vouch for, looked at and taken out again.

In: a tenant, sources, ids. Out: a table or JSON lines, read page by page so that a library of any size fits; or
originals that no lookup finds any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    TenantOption,
    complain,
    duration,
    fail,
    note,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.clients.candidates import Originals, Picture, Place
from services.settings import Settings

COLUMNS = ("id", "source", "size", "registered at", "sha256")
LISTED = 50
PAGE = 500  # originals in one query, and in one table
SHORT = 12  # digits of a SHA-256 that tables show


def list_originals(
    tenant: TenantOption = "default",
    source: Annotated[str | None, typer.Option("--source", help="Only what this source vouches for.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many at most; 0: all.")] = LISTED,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List a tenant's trusted originals, newest registration first. Times are UTC.

    With `--limit 0` all of them, as they are read: lines of JSON, or a table for every 500.

    Example: pentimento originals list --source agency --limit 0 --json
    """
    asyncio.run(_list(settings_of(data), tenant, source, limit, as_json))


def remove(
    original_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, as `originals list` shows them.")],
    tenant: TenantOption = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Remove trusted originals: uploads are no longer compared with them. Doing it again does no harm.

    What stays: the picture in the object store, verdicts that were reached with it, and the same picture as an earlier
    upload, where somebody uploaded it, too. Adding the original again, or replaying the topic original-images,
    registers it again.

    Example: pentimento originals remove boats-at-dawn-0f3a5b7c9d1e --yes
    """
    chosen = list(dict.fromkeys(original_ids))
    settings = settings_of(data)
    if not yes:
        _confirm(f"Remove {len(chosen)} trusted originals of tenant {tenant}?")
    removed = asyncio.run(_removed(settings, tenant, chosen))
    unknown = [each for each in chosen if each not in removed]
    if as_json:
        write_lines({"original_id": each, "tenant": tenant, "removed": each in removed} for each in chosen)
    else:
        note(f"{len(removed)} originals removed; their pictures stay in the object store")
    for each in unknown:
        complain(f"tenant {tenant} has no trusted original {each}: see `pentimento originals list --tenant {tenant}`")
    if unknown:
        fail(f"{len(unknown)} of {len(chosen)} originals were not there to remove")


async def pages(
    originals: Originals, tenant: str, *, source: str | None = None, limit: int = 0, page: int = PAGE
) -> AsyncGenerator[list[Picture], None]:
    """Trusted originals, newest first, in lists of 1..`page`; `limit` of them at most, 0 for all. Raises Unavailable.

    No connection is held between two pages. What is registered meanwhile is newer than the first page, and left out.
    """
    after, left = None, limit
    while found := await originals.page(tenant, limit=min(page, left) if limit else page, source=source, after=after):
        yield found
        after, left = Place.after(found[-1]), left - len(found)
        if (limit and left <= 0) or len(found) < page:
            return


async def _list(settings: Settings, tenant: str, source: str | None, limit: int, as_json: bool) -> None:
    shown = 0
    async with opened_database(settings) as database:
        originals = Originals(database)
        async with aclosing(pages(originals, tenant, source=source, limit=limit)) as arriving:
            async for page in arriving:
                if as_json:
                    write_lines(_as_json(each) for each in page)
                else:
                    write_table(COLUMNS, (_cells(each) for each in page))
                shown += len(page)
        if not as_json:
            note(_footer(shown, *await originals.count(tenant, source=source), tenant, source))


async def _removed(settings: Settings, tenant: str, original_ids: Sequence[str]) -> set[str]:
    async with opened_database(settings) as database:
        return await Originals(database).remove(tenant, original_ids)


def _confirm(question: str) -> None:
    """Goes on where a person at the terminal says yes."""
    if not sys.stdin.isatty():
        raise wrong_use("removing originals asks first, and here is no terminal to ask at: add --yes")
    if not typer.confirm(question, err=True):
        fail("nothing was removed")


def _cells(picture: Picture) -> tuple[str, ...]:
    image = picture.image
    when = f"{picture.registered_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return (picture.original_id, picture.source, f"{image.width}x{image.height}", when, image.sha256[:SHORT])


def _as_json(picture: Picture) -> dict[str, object]:
    image = picture.image
    return {
        "original_id": picture.original_id,
        "tenant": picture.tenant,
        "source": picture.source,
        "width": image.width,
        "height": image.height,
        "registered_at": picture.registered_at.astimezone(UTC).isoformat(),
        "sha256": image.sha256,
        "object_key": image.object_key,
    }


def _footer(shown: int, there: int, newest: datetime | None, tenant: str, source: str | None) -> str:
    whose = f"of tenant {tenant}" + (f" from {source}" if source is not None else "")
    if newest is None:
        return f"no trusted originals {whose}: `pentimento originals add DIR` registers some"
    age = duration((datetime.now(UTC) - newest).total_seconds())
    return f"{shown} of {there} trusted originals {whose}; the newest was registered {age} ago"
