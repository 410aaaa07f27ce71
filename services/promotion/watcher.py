"""Watches a version that was promoted, and rolls it back by itself where it does worse than what served before.

In: a model, limits, and for how long. Out: the reason of the rollback, or None where the version did well. Every look
asks the version that serves for an answer, reads the model server's counters and what verdicts have said since the
promotion. A model server that is away is no reason, since no other version could serve then; when it is back, it is
brought to serve what it should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.clients.serving import Serving
from services.clients.watching import Counters, VerdictShares
from services.core.errors import Broken, Rejected, Unavailable
from services.core.learn.promotion import Promotion
from services.core.learn.watch import Health, Limits, Traffic, trouble
from services.promotion.promoter import Promoter

NEWEST = 500  # verdicts that are compared at most

log = structlog.get_logger()


class Watcher:
    """Watches one model server. `ask(model)` gets an answer from the version that serves, and raises where it does not;
    without `counters` errors and latency of other requests are not seen."""

    def __init__(
        self,
        *,
        promoter: Promoter,
        serving: Serving,
        ask: Callable[[str], Awaitable[None]],
        shares: VerdictShares,
        counters: Counters | None,
        limits: Limits,
        every_s: float = 1.0,
    ) -> None:
        self._promoter = promoter
        self._serving = serving
        self._ask = ask
        self._shares = shares
        self._counters = counters
        self._limits = limits
        self._every_s = every_s

    async def watch(self, promotion: Promotion, *, for_s: float) -> str | None:
        """Looks until the time is over or there is a reason to roll back, and does it. Ends, too, where another version
        is to serve by now.

        Raises Unavailable where the database is away, or the rollback could not be done: call it again.
        """
        model, version = promotion.model, promotion.version
        traffic = await self._traffic(model)
        decisions = await self._shares.before(model, promotion.begun_at, most=NEWEST)
        before = Health(failures=0, traffic=traffic or Traffic(), decisions=decisions)
        failures = 0
        end = asyncio.get_running_loop().time() + for_s
        while asyncio.get_running_loop().time() < end:
            serving = await self._version(model)
            if serving not in (None, version) and await self._promoter.restore(model) != version:
                return None
            if serving == version:
                failures = 0 if await self._answers(model) else failures + 1
            now = None if traffic is None else await self._traffic(model)
            since = Health(
                failures=failures,
                traffic=Traffic() if now is None else now.since(before.traffic),
                decisions=await self._shares.since(model, promotion.begun_at, most=NEWEST),
            )
            reason = trouble(before, since, self._limits)
            if reason is not None:
                log.warning("rolling_back", model=model, version=version, reason=reason)
                done = await self._promoter.rollback(model, reason=reason, of=version)
                return reason if done else None
            await asyncio.sleep(self._every_s)
        return None

    async def _version(self, model: str) -> str | None:
        """The version that serves; None while the model server is away, which is no version's fault."""
        try:
            loaded = await self._serving.served(model)
        except Unavailable as error:
            log.warning("model_server_away", model=model, error=str(error))
            return None
        return loaded[0].version if loaded else None

    async def _answers(self, model: str) -> bool:
        try:
            await self._ask(model)
        except (Unavailable, Broken, Rejected) as error:
            log.warning("no_answer", model=model, error=str(error))
            return False
        return True

    async def _traffic(self, model: str) -> Traffic | None:
        """The server's counters; None where they cannot be had."""
        if self._counters is None:
            return None
        try:
            return await self._counters.traffic(model)
        except Unavailable:
            return None
