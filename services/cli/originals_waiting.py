"""Waiting for originals that were just sent: until lookup finds them, and until it finds them by their parts.

In: events of originals, with the SHA-256 of their bytes. Out: those that are not so far when the time is over.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from services.cli.connections import opened_database
from services.cli.replay import waiting_letters
from services.cli.uploading import ASK_FIRST_S, ASK_LATER_S
from services.clients.candidates import Candidates, Exempt
from services.clients.preparation import Unprepared
from services.core import topology
from services.core.events import OriginalRegistered
from services.settings import Settings

SAME_HASH = 50  # pictures of one PDQ hash that are looked through
LETTERS_EVERY_S = 2.0  # between two looks at the dead letters while originals are awaited

Registered = tuple[OriginalRegistered, str]
"""The event of an original, and the SHA-256 of its bytes."""


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


async def not_prepared_within(settings: Settings, events: Sequence[Registered], timeout_s: float) -> dict[str, str]:
    """Waits until the originals are found by their parts. Those that are not: id to reason. Raises Unavailable.

    What cannot be prepared at all, which `intake` logs, is not waited for.
    """
    missing, unprepared = await awaited(settings, events, timeout_s)
    return missing | dict.fromkeys(unprepared, f"it still waits to be prepared after {timeout_s:g} s")


async def awaited(
    settings: Settings, events: Sequence[Registered], timeout_s: float
) -> tuple[dict[str, str], list[str]]:
    """Those that lookup does not find in time, id to reason; and the ids of those that it finds, but not by their
    parts. Raises Unavailable."""
    until = time.monotonic() + timeout_s
    missing = await not_findable_within(settings, events, timeout_s)
    found = [each for each in events if each[0].original_id not in missing]
    return missing, await unprepared_within(settings, found, until - time.monotonic())


async def unprepared_within(settings: Settings, findable: Sequence[Registered], timeout_s: float) -> list[str]:
    """Waits until the originals, which lookup finds already, are prepared. The ids of those that are not in time.

    Raises Unavailable.
    """
    until, pause = time.monotonic() + timeout_s, ASK_FIRST_S
    async with opened_database(settings) as database:
        unprepared, waiting = Unprepared(database), list(findable)
        while waiting := await _among(unprepared, waiting):
            if time.monotonic() > until:
                break
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, ASK_LATER_S)
    return [event.original_id for event, _ in waiting]


async def _among(unprepared: Unprepared, originals: Iterable[Registered]) -> list[Registered]:
    """Those that wait. They were found already: the row that says that they wait came with what they are found by."""
    by_tenant = defaultdict[str, list[Registered]](list)
    for event, digest in originals:
        by_tenant[event.tenant].append((event, digest))
    waiting = list[Registered]()
    for tenant, those in by_tenant.items():
        contents = await unprepared.among(tenant, [digest for _, digest in those])
        waiting += [each for each in those if each[1] in contents]
    return waiting
