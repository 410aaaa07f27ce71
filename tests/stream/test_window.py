from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from services.stream.window import Window


class Tasks:
    """Work that ends when it is told to, and notes what was acknowledged."""

    def __init__(self, window: Window, count: int) -> None:
        self.window = window
        self.gates = [asyncio.Event() for _ in range(count)]
        self.begun: list[int] = []
        self.acknowledged: list[int] = []

    async def work(self, number: int) -> None:
        self.begun.append(number)
        await self.gates[number].wait()

    async def acknowledge(self, number: int) -> None:
        self.acknowledged.append(number)

    async def admit(self, number: int) -> None:
        await self.window.admit(partial(self.work, number), partial(self.acknowledge, number))


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_nothing_is_acknowledged_before_what_came_before_it() -> None:
    tasks = Tasks(Window(4), 3)
    for number in range(3):
        await tasks.admit(number)
    tasks.gates[2].set()
    tasks.gates[1].set()
    await turns()
    assert tasks.acknowledged == []
    tasks.gates[0].set()
    await eventually(lambda: tasks.acknowledged == [0, 1, 2])
    assert await tasks.window.close(1)


async def test_a_full_window_starts_nothing_until_its_first_message_is_acknowledged() -> None:
    tasks = Tasks(Window(2), 3)
    await tasks.admit(0)
    await tasks.admit(1)
    third: Awaitable[None] = asyncio.ensure_future(tasks.admit(2))
    tasks.gates[1].set()
    await turns()
    assert tasks.begun == [0, 1]
    tasks.gates[0].set()
    await third
    await eventually(lambda: tasks.begun == [0, 1, 2])
    tasks.gates[2].set()
    assert await tasks.window.close(1)


async def test_a_closing_window_finishes_its_work_and_admits_no_more() -> None:
    tasks = Tasks(Window(4), 2)
    await tasks.admit(0)
    closing = asyncio.ensure_future(tasks.window.close(5))
    await turns()
    late = asyncio.ensure_future(tasks.admit(1))
    tasks.gates[0].set()
    assert await closing
    await turns()
    assert (tasks.begun, tasks.acknowledged, late.done()) == ([0], [0], False)
    late.cancel()


async def test_a_window_that_cannot_close_in_time_says_so_and_acknowledges_nothing() -> None:
    tasks = Tasks(Window(4), 1)
    await tasks.admit(0)
    assert not await tasks.window.close(0.01)
    assert tasks.acknowledged == []
    tasks.gates[0].set()
