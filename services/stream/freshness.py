"""How far registering originals is behind: what readiness says of the index.

In: when the oldest original that is not registered yet was sent, measured at the broker now and then. Out: INDEX-STALE
with its age, where that is above the limit. Faust is not asked: it only knows what it has read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from services.core.errors import Broken, Unavailable
from services.health import STALE
from services.stream.beside import waited_s

log = structlog.get_logger()
EVERY_S = 5.0


class Freshness:
    """Measures every few seconds; `report` is given the age in seconds, 0 where no original waits."""

    def __init__(
        self,
        *,
        measure: Callable[[], Awaitable[datetime | None]],
        report: Callable[[float], None],
        limit_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._measure = measure
        self._report = report
        self._limit_s = limit_s
        self._now = now
        self._oldest: datetime | None = None

    def age_s(self) -> float:
        """Seconds since the oldest original that waited at the last measurement was sent; 0 where none did."""
        return waited_s(self._oldest, self._now())

    def trouble(self) -> str | None:
        """`INDEX-STALE: ...` with the age, or None."""
        if self.age_s() <= self._limit_s:
            return None
        return f"{STALE}: an original has waited {self.age_s():.0f} s to be registered (limit {self._limit_s:g} s)"

    async def look(self) -> None:
        """Measures once. What cannot be measured stays as it was."""
        try:
            self._oldest = await self._measure()
        except (Unavailable, Broken) as error:
            log.warning("freshness_unknown", why=str(error))
        self._report(self.age_s())

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)
