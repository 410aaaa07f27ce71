"""How far the workers' groups have read, kept with a backup and set back after a restore.

In: groups and their topics. Out: committed offsets as plain values, and the same put back. A group is only ever set
back: what it reads twice the ledger answers as before, what it never reads is lost. By offsets, not by time: a message
that was sent before a copy of the database was begun may have been handled after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from services.clients.events import EventReader, _errors_mapped
from services.core.errors import Broken


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The next message that a group reads of a partition; None: it has committed nothing yet."""

    group: str
    topic: str
    partition: int
    offset: int | None


class Offsets(EventReader):
    """Raises `Unavailable`, or `Broken` where a group still has members: the brokers would forget what it is told."""

    async def committed(self, group: str, topics: Iterable[str]) -> list[Place]:
        """Where a group is, partition by partition."""
        async with self._consumer(group) as consumer, _errors_mapped(f"asking for {group}", self._timeout_s):
            partitions = await self._partitions(sorted(set(topics)))
            offsets = await asyncio.gather(*(consumer.committed(partition) for partition in partitions))
        return [Place(group, each.topic, each.partition, at) for each, at in zip(partitions, offsets, strict=True)]

    async def set_back(self, group: str, topics: Iterable[str], places: Iterable[Place]) -> list[Place]:
        """Set a group back to where it was, where it is further now. A partition of which the places say nothing came
        later, and is read from its beginning. What was moved, to where."""
        if members := await self.members(group):
            raise Broken(f"{members} processes of {group} run: stop them first, or they go on where they are")
        wanted = {(place.topic, place.partition): place.offset or 0 for place in places if place.group == group}
        now = await self.committed(group, topics)
        async with self._consumer(group) as consumer, _errors_mapped(f"setting {group} back", self._timeout_s):
            starts = await consumer.beginning_offsets([TopicPartition(each.topic, each.partition) for each in now])
            back: dict[TopicPartition, int] = {}
            for each in now:
                at = TopicPartition(each.topic, each.partition)
                to = max(wanted.get((each.topic, each.partition), 0), starts[at])
                if each.offset is not None and to < each.offset:
                    back[at] = to
            if back:
                consumer.assign(list(back))
                await consumer.commit({at: OffsetAndMetadata(to, "") for at, to in back.items()})
        return [Place(group, at.topic, at.partition, to) for at, to in back.items()]
