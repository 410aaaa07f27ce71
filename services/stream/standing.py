"""Tells the metrics where things stand by the database: what no single message shows.

In: `Standings`, asked now and then. Out: gauges. A database that is away leaves them as they were; the stages say so.
"""

from __future__ import annotations

import asyncio

import structlog

from services.clients.standing import Standings
from services.core.errors import Broken, Unavailable
from services.metrics import Metrics

log = structlog.get_logger()
EVERY_S = 30.0


class Reporting:
    """Asks every half minute until it is cancelled."""

    def __init__(self, standings: Standings, metrics: Metrics) -> None:
        self._standings = standings
        self._metrics = metrics

    async def look(self) -> None:
        """Asks once."""
        try:
            standing = await self._standings.now()
        except (Unavailable, Broken) as error:
            log.warning("standing_unknown", why=str(error))
            return
        metrics = self._metrics
        metrics.unjudged.set(standing.unjudged)
        metrics.hard_cases_open.set(standing.hard_cases_open)
        metrics.samples.set(standing.samples)
        metrics.round_open.set(standing.round_open_s or 0.0)
        metrics.round_ended.set(standing.round_ended_s or 0.0)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)
