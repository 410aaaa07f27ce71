"""Dead letters on Kafka: those that wait, and sending them on their way again.

In: an event reader and a sender. Out: letters, and their original messages on their original topics, byte for byte and
with the same ids. Stopped in the middle, it goes on where it was: a letter gets its null value only after its message
was acknowledged, and a message that is sent twice is known by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from services.clients.events import EventReader, EventSender
from services.core import topology
from services.core.events import DeadLetter
from services.core.letters import Waiting, redriven, settled


async def waiting_letters(reader: EventReader) -> Waiting:
    """The dead letters that were not redriven yet. Reads the topic to its end. Raises Unavailable."""
    waiting = Waiting()
    async with aclosing(reader.read(topology.DEAD_LETTERS, from_beginning=True, until_end=True)) as arriving:
        async for message in arriving:
            waiting.add(message)
    return waiting


async def redrive(
    sender: EventSender, letters: Sequence[DeadLetter], *, rate: float, sent: Callable[[DeadLetter], None]
) -> None:
    """Message, then null value, letter by letter, `rate` a second at most; `sent` hears of each. Raises Unavailable."""
    clock = asyncio.get_running_loop().time
    due = clock()
    for letter in letters:
        await asyncio.sleep(max(0.0, due - clock()))
        due = max(due, clock()) + 1 / rate
        await sender.send(redriven(letter))
        await sender.send(settled(letter))
        sent(letter)
