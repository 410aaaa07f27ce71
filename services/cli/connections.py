"""Connections that commands need, opened from the settings and closed again.

In: settings. Out: the database, an event reader, or the `Door` through which images and events go in.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.objects import Objects
from services.core.envelope import Message, encode
from services.core.events import Event, ImageReference, InlineImage, ObjectImage
from services.core.intake.keys import incoming_key
from services.opening import kafka_connection, open_objects
from services.settings import Settings

CONNECTIONS = 2  # to PostgreSQL: a command asks one thing at a time


@dataclass(frozen=True, slots=True)
class Door:
    """Where images and events go in. `inline_max_bytes` 0 puts every image into the object store."""

    objects: Objects
    sender: EventSender
    source: str
    max_bytes: int
    inline_max_bytes: int = 0

    async def reference(self, path: Path) -> tuple[ImageReference, str]:
        """How an event names the image of a file, and its SHA-256.

        Raises OSError where the file cannot be read or is larger than `max_bytes`, Unavailable where the store is away.
        """
        data = await asyncio.to_thread(_read, path, self.max_bytes)
        digest = sha256(data).hexdigest()
        if len(data) <= self.inline_max_bytes:
            return InlineImage(data=data), digest
        key = incoming_key(digest)
        await self.objects.put(key, data, mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        return ObjectImage(object_key=key), digest

    async def send(self, event: Event) -> None:
        """Put an event onto its topic, acknowledged. Raises Unavailable."""
        await self.sender.send(encode(event, source=self.source, time=datetime.now(UTC)))


def _read(path: Path, max_bytes: int) -> bytes:
    size = path.stat().st_size
    if size > max_bytes:
        raise OSError(f"{size} bytes are more than PENTIMENTO_INTAKE__MAX_BYTES allows ({max_bytes})")
    return path.read_bytes()


@asynccontextmanager
async def opened_door(settings: Settings, *, inline: bool = False) -> AsyncIterator[Door]:
    """The object store and a connected event sender. Raises Unavailable."""
    objects = open_objects(settings.objects)
    try:
        async with opened_sender(settings) as sender:
            yield Door(
                objects=objects,
                sender=sender,
                source=f"{settings.source}/cli",
                max_bytes=settings.intake.max_bytes,
                inline_max_bytes=settings.intake.inline_max_bytes if inline else 0,
            )
    finally:
        objects.close()


@asynccontextmanager
async def opened_sender(settings: Settings) -> AsyncIterator[EventSender]:
    """A connected event sender. Raises Unavailable."""
    sender = EventSender(kafka_connection(settings.kafka), timeout_s=settings.kafka.request_timeout_s)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """The project's PostgreSQL, as the workers left it. Raises Unavailable."""
    postgres = settings.postgres
    database = await Database.open(postgres.dsn.get_secret_value(), pool_size=CONNECTIONS, timeout_s=postgres.timeout_s)
    try:
        yield database
    finally:
        await database.close()


def opened_reader(settings: Settings) -> EventReader:
    """Reads topics from the outside; connects when it is asked."""
    return EventReader(kafka_connection(settings.kafka), timeout_s=settings.kafka.request_timeout_s)


def messages(
    settings: Settings, topic: str, *, from_beginning: bool, until_end: bool = False
) -> AsyncGenerator[Message, None]:
    """The messages of a topic, see `EventReader.read`. Close it (`contextlib.aclosing`) when you stop early."""
    return opened_reader(settings).read(topic, from_beginning=from_beginning, until_end=until_end)
