"""`pentimento prepare`: what must be there before a worker starts, where nobody runs `pentimento up`.

In: settings. Out: the database's tables (as `pentimento migrate` makes them) and Kafka's topics, made or only looked
for. A chart's job makes them, and every pod looks for them before its program starts, since a worker that comes before
its topics never sees them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from services.cli.console import DataOption, note, settings_of
from services.cli.migrate import WaitOption, apply, checked, patiently
from services.core.errors import Unavailable
from services.core.topology import TOPICS, Topic
from services.local.topics import create_topics, existing_topics
from services.opening import kafka_connection
from services.settings import Settings


def prepare(
    check: Annotated[bool, typer.Option("--check", help="Make nothing: only see whether all is there.")] = False,
    partitions: Annotated[
        int | None, typer.Option("--partitions", min=1, help="Of every topic that has more than one (4).")
    ] = None,
    wait: WaitOption = 0.0,
    data: DataOption = None,
) -> None:
    """Make the tables and topics of this version; safe to repeat, and for several at once.

    Where something else makes the topics, `pentimento migrate` makes the tables alone.

    Examples: `pentimento prepare --wait 300`, `pentimento prepare --check --wait 600`
    """
    settings = settings_of(data)
    patiently(lambda: _prepare(settings, _wanted(settings, partitions), make=not check), wait)
    note("Tables and topics are there.")


def scaled(partitions: int | None) -> list[Topic]:
    """The topics, those that are shared out among workers with so many partitions."""
    found = list(TOPICS.values())
    if partitions is None:
        return found
    return [replace(topic, partitions=partitions) if topic.partitions > 1 else topic for topic in found]


def kept(topics: list[Topic], days: int) -> list[Topic]:
    """The topics, none of which keeps its messages longer than so many days; 0, or kept for ever: as they are."""
    return [
        replace(topic, retention_hours=min(topic.retention_hours, days * 24))
        if days and topic.retention_hours is not None
        else topic
        for topic in topics
    ]


def _wanted(settings: Settings, partitions: int | None) -> list[Topic]:
    return kept(scaled(partitions), settings.retention.events_days)


def _prepare(settings: Settings, topics: list[Topic], *, make: bool) -> None:
    kafka = kafka_connection(settings.kafka)
    if make:
        apply(settings)
        create_topics(kafka, topics)
        return
    checked(settings)
    if missing := {topic.name for topic in topics} - existing_topics(kafka):
        raise Unavailable("kafka", f"these topics are missing: {', '.join(sorted(missing))}")
