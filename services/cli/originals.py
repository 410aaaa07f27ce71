"""`pentimento originals add`: pictures that a trusted library vouches for.

In: files and folders. Out: one `OriginalRegistered` event each; then it waits until lookup finds them, and until they
are prepared.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
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
from services.cli.originals_waiting import Registered, awaited
from services.cli.sources import FileSource, files
from services.cli.uploading import AT_ONCE
from services.core.events import OriginalRegistered
from services.settings import Settings

originals = typer.Typer(help="Register, list and remove trusted originals.", no_args_is_help=True)


@originals.command()
def add(
    paths: Annotated[list[Path], typer.Argument(metavar="DIR|FILE...", help="Pictures to register.")],
    source: Annotated[str, typer.Option("--source", help="Who vouches for them.")] = "library",
    tenant: TenantOption = "default",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until uploads can be compared with them.")
    ] = True,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait.")] = 120,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Register pictures as trusted originals. Adding the same picture again changes nothing.

    Example: pentimento originals add photos/ --source agency
    """
    chosen = files(paths)
    settings = settings_of(data)
    with progress() as bar:
        task = bar.add_task("registering", total=len(chosen))
        events = asyncio.run(_registered(settings, chosen, source, tenant, lambda: bar.advance(task)))
    missing, waiting = asyncio.run(awaited(settings, events, timeout_s)) if wait else ({}, [])
    unprepared = set(waiting)
    rows = [(event, digest, event.original_id not in missing) for event, digest in events]
    if as_json:
        write_lines(
            facts(event, digest, findable=there and wait)
            | {"prepared": there and wait and event.original_id not in unprepared}
            for event, digest, there in rows
        )
    else:
        write_table(("original id", "file"), ((e.original_id, e.filename or "") for e, _, there in rows if there))
    for name, why in missing.items():
        complain(not_found(name, why))
    if unprepared:
        note(f"{len(unprepared)} of them are found whole so far; `intake` goes on making them findable by their parts")
    if missing or len(events) < len(chosen):
        fail(f"{len(missing) + len(chosen) - len(events)} of {len(chosen)} originals were not registered")


def original_id(tenant: str, digest: str, name: str) -> str:
    """The same picture of the same name and tenant always has the same id: `<stem>-<12 hex>`."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).stem).strip("-.")[:60] or "original"
    return f"{stem}-{sha256(f'{tenant}/{digest}/{name}'.encode()).hexdigest()[:12]}"


def facts(event: OriginalRegistered, digest: str, *, findable: bool) -> dict[str, object]:
    """What `--json` says of an original that was sent."""
    return {"original_id": event.original_id, "file": event.filename, "sha256": digest, "findable": findable}


def not_found(name: str, why: str) -> str:
    """The complaint about an original, by its id, that was sent and that lookup does not find."""
    return f"original {name} cannot be found by lookup: {why}"


def unread(picture: FileSource, error: OSError) -> str:
    """The complaint about a picture whose file could not be read."""
    return f"{picture.name} was not registered: {error.strerror or error}"


async def register(door: Door, picture: FileSource, *, source: str, tenant: str) -> Registered:
    """Sends one original. Returns its event and its SHA-256. Raises Unavailable, and OSError for the file."""
    image, digest = await door.reference(picture.path)
    event = OriginalRegistered(
        original_id=original_id(tenant, digest, picture.name),
        tenant=tenant,
        image=image,
        registered_at=datetime.now(UTC),
        source=source,
        filename=picture.name[-400:],
    )
    await door.send(event)
    return event, digest


async def register_all(
    door: Door, chosen: Sequence[FileSource], *, source: str, tenant: str, sent: Callable[[], None]
) -> list[Registered]:
    """Sends originals, a few at a time. A file that cannot be read is complained about and left out.

    `sent` is called after each. Raises Unavailable.
    """

    def settled(number: int, outcome: Registered | OSError) -> None:
        if isinstance(outcome, OSError):
            complain(unread(chosen[number], outcome))
        sent()

    outcomes = await register_each(door, [(picture, source) for picture in chosen], tenant=tenant, settled=settled)
    return [outcome for outcome in outcomes if not isinstance(outcome, OSError)]


async def register_each(
    door: Door,
    chosen: Iterable[tuple[FileSource, str]],
    *,
    tenant: str,
    settled: Callable[[int, Registered | OSError], None],
) -> list[Registered | OSError]:
    """Sends originals, each with who vouches for it, a few at a time. In their order: its event, or the file's error.

    `settled(number, outcome)` is called for each as soon as the broker has it, or its file failed. Raises Unavailable.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, picture: FileSource, source: str) -> Registered | OSError:
        async with room:
            outcome: Registered | OSError
            try:
                outcome = await register(door, picture, source=source, tenant=tenant)
            except OSError as error:
                outcome = error
            settled(number, outcome)
            return outcome

    return await asyncio.gather(*(one(number, *each) for number, each in enumerate(chosen)))


async def _registered(
    settings: Settings, chosen: Sequence[FileSource], source: str, tenant: str, sent: Callable[[], None]
) -> list[Registered]:
    async with opened_door(settings) as door:
        return await register_all(door, chosen, source=source, tenant=tenant, sent=sent)
