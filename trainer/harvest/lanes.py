"""Politeness towards a host: so many requests at once, so long between two, a pause when it asks for one.

In: a host's pace. Out: turns, one after the other. A host that fails again and again is left alone for this run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

MOST_MISSES = 3
"""Pictures in a row that a host may fail to deliver, each tried several times, before it counts as away."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`delay_s` between the starts of two requests to one host, at most `at_once` of them; a request that fails is
    tried `attempts` times, first after `backoff_s`, then twice as long each time. A host that wants to be left alone
    for more than `patience_s` is left alone for this run."""

    delay_s: float = 1.0
    at_once: int = 2
    attempts: int = 4
    backoff_s: float = 2.0
    patience_s: float = 120.0


@dataclass(slots=True)
class Lane:
    """The way to one host. `away` says why it is not asked any more in this run, "" while it is."""

    pace: Pace
    away: str = ""
    _misses: int = 0
    _free_at: float = 0.0
    _gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    _places: asyncio.Semaphore = field(init=False)
    _delay_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.pace.at_once)
        self._delay_s = self.pace.delay_s

    def slow_down(self, delay_s: float) -> None:
        """Takes at least `delay_s` between two requests from now on; one beyond all patience ends the host's turns."""
        self._delay_s = max(self._delay_s, delay_s)
        if delay_s > self.pace.patience_s:
            self.away = f"its robots.txt asks for {delay_s:g} s between two requests"

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a place and for the time to come."""
        async with self._places:
            async with self._gate:
                await self._free()
                self._free_at = asyncio.get_running_loop().time() + self._delay_s
            yield

    async def _free(self) -> None:
        left = self._free_at - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)
            await self._free()  # the time may have moved on meanwhile

    def pause(self, attempt: int, wish_s: float | None) -> bool:
        """Stops all requests to the host for as long as it wishes, at least for the back-off after an `attempt` (from
        0). False where another attempt is not worth waiting for."""
        wait = max(wish_s or 0.0, self.pace.backoff_s * 2.0**attempt)
        if attempt + 1 >= self.pace.attempts or wait > self.pace.patience_s:
            return False
        self._free_at = max(self._free_at, asyncio.get_running_loop().time() + wait)
        return True

    def delivered(self) -> None:
        """The host answered."""
        self._misses = 0

    def missed(self, why: str, wish_s: float | None) -> None:
        """The host failed to deliver a picture, however often it was asked; or wants to be left alone for long."""
        self._misses += 1
        if self._misses >= MOST_MISSES or (wish_s or 0.0) > self.pace.patience_s:
            self.away = why
