"""`pentimento originals add`: pictures that a trusted library vouches for.

In: files and folders. Out: one `OriginalRegistered` event each; then it waits until lookup finds them.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from services.cli.connections import Door, opened_database, opened_door
from services.cli.console import (
    DataOption,
    JsonOption,
    TenantOption,
    complain,
    fail,
    progress,
    settings_of,
    write_lines,
    write_table,
)
from services.cli.replay import waiting_letters
from services.cli.sources import FileSource, files
from services.cli.uploading import ASK_FIRST_S, ASK_LATER_S, AT_ONCE
from services.clients.candidates import Candidates, Exempt
from services.core import topology
from services.core.events import OriginalRegistered
from services.settings import Settings

SAME_HASH = 50  # pictures of one PDQ hash that are looked through
LETTERS_EVERY_S = 2.0  # between two looks at the dead letters while originals are awaited

Registered = tuple[OriginalRegistered, str]
"""The event of an original, and the SHA-256 of its bytes."""

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
    missing = asyncio.run(not_findable_within(settings, events, timeout_s)) if wait else {}
    rows = [(event, digest, event.original_id not in missing) for event, digest in events]
    if as_json:
        write_lines(facts(event, digest, findable=there and wait) for event, digest, there in rows)
    else:
        write_table(("original id", "file"), ((e.original_id, e.filename or "") for e, _, there in rows if there))
    for name, why in missing.items():
        complain(not_found(name, why))
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


async def not_findable(
    candidates: Candidates,
    events: Iterable[Registered],
    *,
    timeout_s: float,
    refusals: Callable[[], Awaitable[Mapping[str, str]]],
) -> dict[str, str]:
    """Waits until lookup finds the originals (events with SHA-256). Those that it does not find: id to reason.

    `refusals` says which were refused, and is asked now and then. Raises Unavailable.
    """
    waiting = {event.original_id: (event.tenant, digest) for event, digest in events}
    refused: dict[str, str] = {}
    began, pause = time.monotonic(), ASK_FIRST_S
    asked = began
    while waiting:
        waiting = {name: where for name, where in waiting.items() if not await _findable(candidates, *where)}
        now = time.monotonic()
        if waiting and now - asked > LETTERS_EVERY_S:
            asked = now
            said = await refusals()
            refused |= {name: said[name] for name in waiting if name in said}
            waiting = {name: where for name, where in waiting.items() if name not in refused}
        if waiting and now - began > timeout_s:
            return refused | dict.fromkeys(waiting, f"nothing heard of it after {timeout_s:g} s; is `intake` running?")
        if waiting:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, ASK_LATER_S)
    return refused


async def _findable(candidates: Candidates, tenant: str, digest: str) -> bool:
    """Whether a lookup for the very same picture would meet it as a trusted original of the tenant."""
    known = await candidates.known(digest)
    if known is None:
        return False
    # By its bytes: one on the stop list is met by nothing else.
    same = await candidates.nearest(
        tenant, known[1], max_distance=0, limit=SAME_HASH, trusted=True, exempt=Exempt(digest)
    )
    return any(neighbour.picture.image.sha256 == digest for neighbour in same)


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


async def not_findable_within(settings: Settings, events: Sequence[Registered], timeout_s: float) -> dict[str, str]:
    """As `not_findable`, with the database and the dead letters of these settings."""
    since = min((event.registered_at for event, _ in events), default=datetime.now(UTC))

    async def refusals() -> dict[str, str]:
        return {
            letter.source_key.decode(errors="replace"): letter.message
            for letter in await waiting_letters(settings)
            if letter.source_topic == topology.ORIGINALS and letter.source_key and letter.failed_at >= since
        }

    async with opened_database(settings) as database:
        return await not_findable(Candidates(database), events, timeout_s=timeout_s, refusals=refusals)


async def _registered(
    settings: Settings, chosen: Sequence[FileSource], source: str, tenant: str, sent: Callable[[], None]
) -> list[Registered]:
    async with opened_door(settings) as door:
        return await register_all(door, chosen, source=source, tenant=tenant, sent=sent)
