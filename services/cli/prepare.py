"""`pentimento prepare`: what must be there before a worker starts, where nobody runs `pentimento up`.

In: settings. Out: the database's tables and Kafka's topics, made or only looked for. A chart's job makes them, and
every pod looks for them before its program starts, since a worker that comes before its topics never sees them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import DataOption, complain, note, settings_of
from services.clients.database import SCHEMA_VERSION
from services.core.errors import Unavailable
from services.core.topology import TOPICS, Topic
from services.local.topics import create_topics, existing_topics
from services.opening import kafka_connection
from services.settings import Settings

PAUSE_S = 2.0


def prepare(
    check: Annotated[bool, typer.Option("--check", help="Make nothing: only see whether all is there.")] = False,
    topics: Annotated[bool, typer.Option("--topics/--no-topics", help="Topics on Kafka, too.")] = True,
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, help="Of every topic that has more than one (4).")
    ] = None,
    wait: Annotated[float, typer.Option("--wait", metavar="S", min=0, help="Try again for so long.")] = 0.0,
    data: DataOption = None,
) -> None:
    """Make the tables and topics of this version; safe to repeat, and for several at once.

    Examples: `pentimento prepare --wait 300`, `pentimento prepare --check --wait 600`
    """
    settings = settings_of(data)
    wanted = scaled(partitions)
    end = time.monotonic() + wait
    while True:
        try:
            _prepare(settings, wanted if topics else [], make=not check)
        except Unavailable as error:
            if time.monotonic() >= end:
                raise
            complain(f"{error}; trying again")
            time.sleep(PAUSE_S)
        else:
            note("Tables and topics are there." if topics else "Tables are there.")
            return


def scaled(partitions: int | None) -> list[Topic]:
    """The topics, those that are shared out among workers with so many partitions."""
    found = list(TOPICS.values())
    if partitions is None:
        return found
    return [replace(topic, partitions=partitions) if topic.partitions > 1 else topic for topic in found]


def _prepare(settings: Settings, topics: list[Topic], *, make: bool) -> None:
    asyncio.run(_tables(settings, make=make))
    kafka = kafka_connection(settings.kafka)
    if topics and make:
        create_topics(kafka, topics)
    elif topics and (missing := {topic.name for topic in topics} - existing_topics(kafka)):
        raise Unavailable("kafka", f"these topics are missing: {', '.join(sorted(missing))}")


async def _tables(settings: Settings, *, make: bool) -> None:
    async with opened_database(settings) as database:
        if make:
            await database.migrate()
        elif (found := await database.schema()) < SCHEMA_VERSION:
            raise Unavailable("postgres", f"the tables are of version {found}, this program needs {SCHEMA_VERSION}")
