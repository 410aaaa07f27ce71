"""What many people look at and what is costly to measure: measured once for all of them, every few seconds at most.

In: a way to measure. Out: its newest answer. Nothing is measured while nobody looks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """An answer that is good for `ttl_s`. Errors are not kept: whoever comes next asks again."""

    def __init__(
        self, measure: Callable[[], Awaitable[T]], *, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._measure = measure
        self._ttl_s = ttl_s
        self._clock = clock
        self._asking = asyncio.Lock()
        self._known: tuple[T, float] | None = None

    async def get(self) -> T:
        """The answer. Of those who ask at the same time one measures, and the others wait for it."""
        async with self._asking:
            if self._known is None or self._clock() - self._known[1] >= self._ttl_s:
                self._known = None
                self._known = (await self._measure(), self._clock())
            return self._known[0]

    def forget(self) -> None:
        """Measure anew when somebody asks: it has just been changed from here."""
        self._known = None
