"""What one consumer has in work: several messages at once, acknowledged in the order in which they came.

In: the work of each message, and how to acknowledge it. Out: acknowledgements. A message is acknowledged when it and
all before it are over, so that a commit never passes a message that is still in work (which is how Faust's own
concurrency loses messages). A window outlives Faust's actors: when Faust cancels one, what it had in work goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]
Acknowledge = Callable[[], Awaitable[object]]


class Window:
    """At most `size` messages that are not acknowledged yet. Work must not raise: it ends the process instead."""

    def __init__(self, size: int) -> None:
        self._places = asyncio.Semaphore(size)
        self._in_order: asyncio.Queue[tuple[asyncio.Task[None], Acknowledge]] = asyncio.Queue()
        self._acknowledging = asyncio.create_task(self._acknowledge_all())
        self._closed = False

    async def admit(self, work: Work, acknowledge: Acknowledge) -> None:
        """Starts a message's work as soon as there is a place for it. A closed window has no more places."""
        await self._places.acquire()
        if self._closed:
            await asyncio.get_running_loop().create_future()  # until the caller is cancelled
        self._in_order.put_nowait((asyncio.create_task(work()), acknowledge))

    async def close(self, within_s: float) -> bool:
        """Admits nothing more, and waits until everything in work is acknowledged. False where it takes longer."""
        self._closed = True
        try:
            await asyncio.wait_for(self._in_order.join(), within_s)
        except TimeoutError:
            return False
        self._acknowledging.cancel()
        return True

    async def _acknowledge_all(self) -> None:
        while True:
            work, acknowledge = await self._in_order.get()
            await work
            await acknowledge()
            self._in_order.task_done()
            self._places.release()
