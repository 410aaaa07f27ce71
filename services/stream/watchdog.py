"""The watchdog: a worker that has work and finishes none is ended, so that something better takes its place.

Faust only logs that a stream stopped. So lag is measured at the broker, not asked of Faust, and liveness is decided
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import structlog

from services.core.errors import Unavailable
from services.stream import exits
from services.stream.stage import Progress

log = structlog.get_logger()
EVERY_S = 5.0
Lag = Mapping[tuple[str, int], int]
"""Messages behind, by (topic, partition)."""


class Watchdog:
    """Measures lag every few seconds; ends the process when there is some and nothing finishes for `patience_s`."""

    def __init__(
        self,
        *,
        progress: Progress,
        measure_lag: Callable[[], Awaitable[Lag]],
        report: Callable[[Lag], None],
        patience_s: float,
        abort: Callable[[int, str], NoReturn],
    ) -> None:
        self._progress = progress
        self._measure_lag = measure_lag
        self._report = report
        self._patience_s = patience_s
        self._abort = abort
        self._lag = 0

    def stuck(self) -> str | None:
        """Why the worker counts as dead, or None. Liveness probes ask this."""
        if self._lag == 0 or self._progress.idle_s() < self._patience_s:
            return None
        return f"{self._lag} messages behind and nothing finished for {self._progress.idle_s():.0f} s"

    async def run(self) -> None:
        """Watches until cancelled."""
        while True:
            try:
                lag = await self._measure_lag()
            except Unavailable as error:
                log.warning("lag_unknown", why=str(error))
            else:
                self._lag = sum(lag.values())
                self._report(lag)
                if self._lag == 0:
                    self._progress.finished()  # idle by right: patience starts with the next message
            if why := self.stuck():
                self._abort(exits.STUCK, why)
            await asyncio.sleep(EVERY_S)
