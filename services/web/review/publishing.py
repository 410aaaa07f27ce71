"""Decisions on their way to Kafka, once they cannot be undone any more: the outbox, looked at again and again.

In: the outbox and the sender. Out: `ReviewDecided` events. Runs beside the server in every web process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from services.clients.review_outbox import AT_ONCE, ReviewOutbox
from services.core.envelope import encode
from services.core.errors import PentimentoError
from services.core.events import ReviewDecided
from services.web.parts import Parts

log = structlog.get_logger()
LOOK_S = 0.5
AWAY_S = 5.0  # PostgreSQL or Kafka does not answer: what is due waits


class Publisher:
    """Sends what is due."""

    def __init__(self, parts: Parts, source: str) -> None:
        self._parts = parts
        self._source = f"{source}/web"
        self._outbox = ReviewOutbox(parts.database)

    async def once(self) -> int:
        """Send all that is due now. How many events that were. Raises Unavailable or Broken."""
        sent = 0
        while (together := await self._outbox.send(self._deliver, now=self._parts.now())) > 0:
            sent += together
            if together < AT_ONCE:
                break
        return sent

    async def forever(self) -> None:
        """Send what comes due, until cancelled."""
        while True:
            pause_s = LOOK_S
            try:
                if sent := await self.once():
                    log.info("reviews_sent", decisions=sent)
            except PentimentoError as why:
                log.warning("reviews_wait", why=str(why))
                pause_s = AWAY_S
            await asyncio.sleep(pause_s)

    async def _deliver(self, events: Sequence[ReviewDecided]) -> None:
        telemetry = self._parts.telemetry
        messages = []
        for event in events:
            with telemetry.span_send(event.topic, key=event.key().encode(), message_id=event.event_id()):
                trace = telemetry.inject()
                messages.append(encode(event, source=self._source, time=event.decided_at, trace=trace))
        await self._parts.sender.send_many(messages)


@asynccontextmanager
async def publishing(publisher: Publisher, *, ended: Callable[[], None]) -> AsyncIterator[None]:
    """A publisher at work while the block lasts. What it leaves, it or another one sends later.

    Should it end by itself, `ended` is called, and the block's end raises what it ended with.
    """
    task = asyncio.create_task(publisher.forever())
    task.add_done_callback(lambda _: ended())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
