"""`pentimento offsets`: how far the workers have read, kept with a backup, and set back after a restore.

In: the groups of the topology. Out: JSON lines, one a partition. Written before the database is copied, so that nothing
which the copy lacks is passed over.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import DataOption, JsonOption, note, settings_of, write_lines, write_table, wrong_use
from services.clients.offsets import Offsets, Place
from services.core.topology import GROUPS
from services.opening import kafka_connection
from services.settings import Settings

offsets = typer.Typer(help="How far the workers have read: keep it with backups, set it back.", no_args_is_help=True)


@offsets.command()
def save(data: DataOption = None) -> None:
    """Write how far every group has read, as JSON lines: the first step of a backup.

    Example: pentimento offsets save
    """
    write_lines(asdict(place) for place in asyncio.run(_saved(settings_of(data))))


@offsets.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `offsets save` wrote before the copy.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Set every group back to where it was; never forward. The workers must not run.

    Example: pentimento offsets restore offsets.jsonl
    """
    try:
        places = [Place(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, TypeError) as error:
        raise wrong_use(f"{file} is nothing that `pentimento offsets save` wrote: {error}") from error
    moved = asyncio.run(_restored(settings_of(data), places))
    if as_json:
        write_lines(asdict(place) for place in moved)
    else:
        write_table(("group", "topic", "partition", "reads on from"), ([str(cell) for cell in asdict(place).values()]
                                                                       for place in moved))  # fmt: skip
        note(f"{len(moved)} partitions set back")


@offsets.command()
def lag(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Say how many messages each group has not read yet: after a restore one group starts when the one before has none.

    Example: pentimento offsets lag
    """
    waiting = asyncio.run(_waiting(settings_of(data)))
    if as_json:
        write_lines({"group": group, "messages": count} for group, count in waiting.items())
    else:
        write_table(("group", "messages that wait"), ((group, str(count)) for group, count in waiting.items()))


async def _waiting(settings: Settings) -> dict[str, int]:
    reader = _offsets(settings)
    return {name: sum((await reader.lag(group.consumer_group, group.reads)).values()) for name, group in GROUPS.items()}


async def _saved(settings: Settings) -> list[Place]:
    reader = _offsets(settings)
    found = [await reader.committed(group.consumer_group, group.reads) for group in GROUPS.values()]
    return [place for places in found for place in places]


async def _restored(settings: Settings, places: Sequence[Place]) -> list[Place]:
    reader = _offsets(settings)
    moved = [await reader.set_back(group.consumer_group, group.reads, places) for group in GROUPS.values()]
    return [place for places in moved for place in places]


def _offsets(settings: Settings) -> Offsets:
    return Offsets(kafka_connection(settings.kafka), timeout_s=settings.kafka.request_timeout_s)
