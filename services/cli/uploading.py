"""Uploads onto the stream and their verdicts back, as any platform would do it. `submit`, `demo` and the bench use it.

In: images and an open `Door`. Out: `ImageUploaded` events that Kafka acknowledged; later, their verdicts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

from services.cli.connections import Door
from services.cli.console import complain
from services.cli.sources import Source, UrlSource
from services.clients.cases import VerdictFilter, Verdicts
from services.core.events import ImageReference, ImageUploaded, UrlImage, VerdictReached

AT_ONCE = 16  # files read and stored at the same time
ASK_FIRST_S, ASK_LATER_S = 0.1, 1.0  # between two looks at the projection: often at first, then less
IDS_AT_ONCE = 500  # upload ids in one query


async def upload(door: Door, source: Source, *, tenant: str, upload_id: str | None = None) -> ImageUploaded:
    """Sends one image. Raises Unavailable, and OSError where the file cannot be read."""
    image: ImageReference
    if isinstance(source, UrlSource):
        image, digest = UrlImage(url=source.url), None
    else:
        image, digest = await door.reference(source.path)
    event = ImageUploaded(
        upload_id=upload_id or str(uuid4()),
        tenant=tenant,
        image=image,
        uploaded_at=datetime.now(UTC),
        filename=source.name[-400:],
        sha256=digest,
    )
    await door.send(event)
    return event


async def upload_all(
    door: Door, images: Sequence[Source], *, tenant: str, sent: Callable[[], None]
) -> list[ImageUploaded]:
    """Sends images, a few at a time; the events in the order of `images`. `sent` is called after each.

    A file that cannot be read is complained about and left out. Raises Unavailable.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(source: Source) -> ImageUploaded | None:
        async with room:
            try:
                return await upload(door, source, tenant=tenant)
            except OSError as error:
                complain(f"{source.name} was not submitted: {error.strerror or error}")
                return None
            finally:
                sent()

    outcomes = await asyncio.gather(*(one(source) for source in images))
    return [event for event in outcomes if event is not None]


async def verdicts_of(
    verdicts: Verdicts, uploads: Iterable[ImageUploaded], *, timeout_s: float, arrived: Callable[[], None]
) -> dict[str, VerdictReached]:
    """The verdicts of uploads by upload id: all of them, or those that came within `timeout_s`.

    `arrived` is called for each. Raises Unavailable.
    """
    waiting = {event.upload_id: event.tenant for event in uploads}
    found: dict[str, VerdictReached] = {}
    deadline, pause = time.monotonic() + timeout_s, ASK_FIRST_S
    while waiting:
        for verdict in await _known(verdicts, tuple(waiting)):
            if waiting.get(verdict.upload_id) == verdict.tenant:
                del waiting[verdict.upload_id]
                found[verdict.upload_id] = verdict
                arrived()
                pause = ASK_FIRST_S
        if not waiting or time.monotonic() > deadline:
            break
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, ASK_LATER_S)
    return found


async def _known(verdicts: Verdicts, upload_ids: Sequence[str]) -> list[VerdictReached]:
    """What the projection knows of these uploads; ids of other tenants' uploads may be among them."""
    found: list[VerdictReached] = []
    for start in range(0, len(upload_ids), IDS_AT_ONCE):
        asked = tuple(upload_ids[start : start + IDS_AT_ONCE])
        found += await verdicts.find(VerdictFilter(upload_ids=asked), limit=2 * len(asked))
    return found
