"""`pentimento submit`: images onto the stream, and with `--wait` their verdicts back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from services.cli.connections import opened_database, opened_door
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
    wrong_use,
)
from services.cli.sources import Source, sources
from services.cli.uploading import upload, upload_all, verdicts_of
from services.cli.verdicts import write_verdicts
from services.clients.cases import Verdicts
from services.core.events import ImageUploaded, VerdictReached
from services.settings import Settings

IDS_NAMED = 5  # in an error text


def submit(
    images: Annotated[list[str], typer.Argument(metavar="PATH|DIR|URL...", help="What to submit.")],
    tenant: TenantOption = "default",
    upload_id: Annotated[str | None, typer.Option("--id", help="Upload id, for one image. Else a random one.")] = None,
    inline: Annotated[bool, typer.Option("--inline", help="Put small images into the event itself.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the verdicts and show them.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for verdicts.")] = 300,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Submit images to the stream.

    Example: pentimento submit holiday.jpg scans/ https://images.example.com/a.png --wait
    """
    chosen = sources(images)
    if upload_id is not None and len(chosen) != 1:
        raise wrong_use(f"--id names one upload, but {len(chosen)} images were given")
    settings = settings_of(data)
    events = asyncio.run(_submitted(settings, chosen, tenant, upload_id, inline))
    if wait:
        _show_verdicts(settings, events, timeout_s, as_json)
    elif as_json:
        write_lines(event.model_dump(mode="json", exclude={"image"}, exclude_none=True) for event in events)
    else:
        write_table(("upload id", "file"), ((event.upload_id, event.filename or "") for event in events))
    if len(events) < len(chosen):
        fail(f"{len(chosen) - len(events)} of {len(chosen)} images were not submitted")


async def _submitted(
    settings: Settings, chosen: Sequence[Source], tenant: str, upload_id: str | None, inline: bool
) -> list[ImageUploaded]:
    async with opened_door(settings, inline=inline) as door:
        if upload_id is not None:
            try:
                return [await upload(door, chosen[0], tenant=tenant, upload_id=upload_id)]
            except OSError as error:
                complain(f"{chosen[0].name} was not submitted: {error.strerror or error}")
                return []
        with progress() as bar:
            task = bar.add_task("submitting", total=len(chosen))
            return await upload_all(door, chosen, tenant=tenant, sent=lambda: bar.advance(task))


def _show_verdicts(settings: Settings, events: Sequence[ImageUploaded], timeout_s: float, as_json: bool) -> None:
    """Waits for the verdicts and writes them in the order of submission; fails where some do not come."""
    if not as_json:
        note(f"{len(events)} submitted; waiting for their verdicts")
    found = asyncio.run(_awaited(settings, events, timeout_s))
    write_verdicts([found[event.upload_id] for event in events if event.upload_id in found], as_json=as_json)
    missing = [event.upload_id for event in events if event.upload_id not in found]
    if missing:
        named = ", ".join(missing[:IDS_NAMED]) + (", ..." if len(missing) > IDS_NAMED else "")
        advice = "look at `pentimento status` and `pentimento replay list`"
        fail(f"{len(missing)} of {len(events)} uploads have no verdict after {timeout_s:g} s ({named}): {advice}")


async def _awaited(settings: Settings, events: Sequence[ImageUploaded], timeout_s: float) -> dict[str, VerdictReached]:
    async with opened_database(settings) as database:
        with progress() as bar:
            task = bar.add_task("judging", total=len(events))
            return await verdicts_of(Verdicts(database), events, timeout_s=timeout_s, arrived=lambda: bar.advance(task))
