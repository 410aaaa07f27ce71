"""Sends what waits for webhooks. Several senders work side by side, in as many processes as there are.

In: deliveries from the outbox, a few at once. Out: signed POST requests, and what became of each in the outbox. A
process that dies leaves its deliveries to the others when their lease is over: they may then arrive twice, with the
same id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from math import inf
from time import monotonic

import structlog

from services.clients.deliveries import Deliveries, Delivery
from services.clients.fetch import Fetcher
from services.clients.vault import Vault
from services.core.errors import Broken, Rejected, Unavailable
from services.core.webhooks import (
    Announced,
    Attempt,
    Delivered,
    GivenUp,
    Later,
    Outcome,
    Retries,
    body,
    headers,
    outcome,
)
from services.settings import WebhookSettings
from services.telemetry import Telemetry

log = structlog.get_logger()
REPORT_S = 5.0  # between two counts of the queue
PRUNE_S = 3600.0
PAUSE_S = 2.0  # after the database did not answer


class Sender:
    """Delivers until it is cancelled. `source` is the `source` of the CloudEvents."""

    def __init__(
        self,
        *,
        deliveries: Deliveries,
        fetcher: Fetcher,
        vault: Vault,
        settings: WebhookSettings,
        telemetry: Telemetry,
        source: str,
        now: Callable[[], datetime],
    ) -> None:
        self._deliveries = deliveries
        self._fetcher = fetcher
        self._vault = vault
        self._settings = settings
        self._retries = Retries(settings.retry_first_s, settings.retry_longest_s, settings.give_up_s)
        self._metrics = telemetry.metrics
        self._source = source
        self._now = now
        self._reported = self._pruned = -inf
        self._busy: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled. What is being sent by then has the time that a receiver has to answer."""
        try:
            while True:
                try:
                    await self._keep_house()
                    found = await self._start_some()
                except (Broken, Unavailable) as error:
                    log.warning("webhooks_wait", why=str(error))
                    await asyncio.sleep(PAUSE_S)
                    continue
                if not found:
                    await self._wait()
        finally:
            if self._busy:
                await asyncio.wait(self._busy, timeout=self._settings.timeout_s + PAUSE_S)
            for task in self._busy:
                task.cancel()

    async def _start_some(self) -> bool:
        """Takes up what there is room for. Whether there was anything."""
        room = self._settings.in_flight - len(self._busy)
        if room <= 0:
            return False
        settings = self._settings
        claimed = await self._deliveries.claim(at_most=room, per_webhook=settings.per_webhook, lease_s=settings.lease_s)
        for delivery in claimed:
            task = asyncio.create_task(self._one(delivery))
            self._busy.add(task)
            task.add_done_callback(self._done)
        return bool(claimed)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_failed", exc_info=error)

    async def _wait(self) -> None:
        """Until one delivery is done, or it is time to look again."""
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=self._settings.look_s, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(self._settings.look_s)

    async def _one(self, delivery: Delivery) -> None:
        """One delivery to its next state. Where the database is away its lease ends, and it comes again."""
        try:
            if delivery.event is None:
                attempt: Attempt = Attempt(None, 0.0, "the event is not in the projection any more")
                what: Outcome = GivenUp("event_missing")
            else:
                attempt = await self._sent(delivery, delivery.event)
                what = outcome(
                    attempt,
                    attempts=delivery.attempts,
                    age_s=(self._now() - delivery.since).total_seconds(),
                    failures=delivery.failures,
                    chance=random.random(),  # noqa: S311  # spreads retries, guards nothing
                    retries=self._retries,
                )
            self._tell(delivery, attempt, what)
            await self._deliveries.settle(delivery, attempt, what)
        except (Broken, Unavailable) as error:
            log.error("webhook_unsettled", webhook=delivery.webhook, delivery=delivery.id, why=str(error))

    async def _sent(self, delivery: Delivery, event: Announced) -> Attempt:
        """Asks the receiver. Raises Broken where its secret cannot be opened."""
        secrets = [self._vault.open(sealed) for sealed in delivery.sealed]
        payload = body(event, source=self._source)
        signed = headers(event.event_id, payload, secrets=secrets, at=self._now())
        started = monotonic()
        try:
            answer = await self._fetcher.post(delivery.url, payload, signed)
        except (Rejected, Unavailable) as error:
            return Attempt(None, (monotonic() - started) * 1000, str(error)[:300])
        return Attempt(answer.status, (monotonic() - started) * 1000, retry_after_s=answer.retry_after_s)

    def _tell(self, delivery: Delivery, attempt: Attempt, what: Outcome) -> None:
        match what:
            case Delivered():
                word = "delivered"
            case Later():
                word = "later"
            case GivenUp():
                word = "given_up"
        self._metrics.webhooks.labels(word).inc()
        self._metrics.webhook_seconds.observe(attempt.duration_ms / 1000)
        log.info(
            "webhook",
            webhook=delivery.webhook,
            delivery=delivery.id,
            outcome=word,
            status=attempt.status,
            attempts=delivery.attempts,
            ms=round(attempt.duration_ms, 1),
            why=attempt.error,
        )

    async def _keep_house(self) -> None:
        """Counts what waits, and forgets what is old, each now and then."""
        if monotonic() - self._reported >= REPORT_S:
            self._reported = monotonic()
            queued, dead = await self._deliveries.waiting()
            self._metrics.webhooks_queued.set(queued)
            self._metrics.webhooks_dead.set(dead)
        if monotonic() - self._pruned >= PRUNE_S:
            self._pruned = monotonic()
            if forgotten := await self._deliveries.prune(keep_s=self._settings.keep_s):
                log.info("webhooks_pruned", deliveries=forgotten, keep=str(timedelta(seconds=self._settings.keep_s)))


async def stop_sending(sending: asyncio.Task[None]) -> None:
    """Ends `Sender.run` and waits for what is under way. Raises what it ended with, where it ended by itself."""
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
