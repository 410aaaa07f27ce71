"""THE loop of every group: decode, handle, deliver, retry, dead-letter, measure.

In: raw messages, as Faust hands them over. Out: events that the broker has acknowledged. A message is over when it is
handled with all its outputs acknowledged, or lies acknowledged in `dead-letters`. Only then may Faust commit it.

Faust acknowledges a message when its agent raises, and a taken batch when its stream stops. So `app.py` acknowledges
by hand, in order (`window.py`); nothing raises out of `run`; and where a message can reach neither end, the process
ends at once, without unwinding: another process will be given the same messages.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Generic, NoReturn, Protocol, TypeVar

import structlog

from services.core.envelope import Message, Undecodable, decode, encode
from services.core.errors import PentimentoError, Rejected, Unavailable
from services.core.events import Event
from services.settings import StageSettings
from services.stream import exits
from services.stream.deadletter import Limit, dead_letter, kind_of
from services.telemetry import Telemetry
from services.tracing import failed

log = structlog.get_logger()
E = TypeVar("E", bound=Event)


class Sender(Protocol):
    """Delivers one message and returns when the broker has acknowledged it. Raises Unavailable."""

    async def send(self, message: Message) -> None: ...


class Progress:
    """When something was last finished: what the watchdog looks at."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.last_finished_at = clock()

    def finished(self) -> None:
        self.last_finished_at = self._clock()

    def idle_s(self) -> float:
        """Seconds since a message was last finished."""
        return self._clock() - self.last_finished_at


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a group's stages need of the world, handed in. `abort` ends the process at once, without unwinding."""

    group: str
    consumer_group: str
    source: str
    sender: Sender
    telemetry: Telemetry
    settings: StageSettings
    progress: Progress
    now: Callable[[], datetime]
    abort: Callable[[int, str], NoReturn]
    clock: Callable[[], float] = monotonic
    jitter: Callable[[], float] = field(default=random.random)  # only spreads retries


class Stage(Generic[E]):
    """One topic's consumer: `handle` turns a decoded event into the events that follow from it.

    `handle` must be idempotent: a message may be handled again after a crash or a rebalance. It raises Unavailable to
    be tried again, and may be tried again after any other error; what it returns is delivered in order. `after` is told
    of each message that was handled, and not of those that became dead letters.
    """

    def __init__(
        self,
        expected: type[E],
        handle: Callable[[E], Awaitable[Sequence[Event]]],
        surroundings: Surroundings,
        *,
        after: Callable[[Message], None] | None = None,
    ) -> None:
        self._expected = expected
        self._after = after
        self._handle = handle
        self._world = surroundings
        self._group = surroundings.group
        self._sender = surroundings.sender
        self._telemetry = surroundings.telemetry
        self._settings = surroundings.settings
        self._progress = surroundings.progress
        self._limit = Limit(share=self._settings.deadletter_share, run=self._settings.deadletter_run)

    async def run(self, message: Message) -> None:
        """One message to its end: handled and delivered, or dead-lettered. Ends the process where neither can be."""
        in_flight = self._telemetry.metrics.in_flight.labels(self._group)
        in_flight.inc()
        try:
            await self._one(message)
        except Exception as error:
            self._world.abort(exits.CANNOT_DELIVER, f"a message could be neither handled nor dead-lettered: {error!r}")
        in_flight.dec()

    async def _one(self, message: Message) -> None:
        """One message to its end. Raises only when not even the dead letter could be delivered."""
        started = self._world.clock()
        with self._telemetry.span_process(message.topic, message, self._world.consumer_group) as span:
            attempt = _Attempt()
            try:
                event = decode(message, self._expected)
                attempt.upload_id = getattr(event, "upload_id", None)
                await self._to_the_end(event, attempt)
            except Exception as error:
                failed(span, error)
                await self._bury(message, error, attempt)
                outcome = f"dead_letter_{kind_of(error)}"
            else:
                self._limit.succeeded()
                if self._after is not None:
                    self._after(message)
                outcome = "handled"
            self._progress.finished()
            seconds = self._world.clock() - started
            self._telemetry.metrics.messages.labels(self._group, message.topic, outcome).inc()
            times = self._telemetry.metrics.message_seconds.labels(self._group, message.topic)
            times.observe(seconds, self._telemetry.exemplar())
            log.info(
                "handled", group=self._group, topic=message.topic, partition=message.partition, offset=message.offset,
                upload_id=attempt.upload_id, outcome=outcome, attempts=attempt.number, ms=round(seconds * 1000, 1),
            )  # fmt: skip

    async def _to_the_end(self, event: E, attempt: _Attempt) -> None:
        """Handles and delivers, again and again while something is away, until `retry_for_s` is over."""
        began = self._world.clock()
        outputs: list[Event] | None = None
        pause = self._settings.retry_first_s
        broken = 0
        while True:
            attempt.number += 1
            try:
                if outputs is None:
                    outputs = list(await self._handle(event))
                while outputs:
                    await self._deliver(outputs[0])
                    outputs.pop(0)
                return
            except Unavailable as error:
                if self._world.clock() - began + pause > self._settings.retry_for_s:
                    raise
                self._telemetry.retried(error.dependency)
                log.warning("unavailable", dependency=error.dependency, upload_id=attempt.upload_id, why=str(error))
                wait = max(pause, error.retry_after_s or 0.0)
            except Rejected:
                raise
            except Exception as error:
                broken += 1
                if broken >= self._settings.broken_attempts:
                    raise
                log.exception("handler_failed", upload_id=attempt.upload_id, error=type(error).__name__)
                wait = pause
            await asyncio.sleep(wait * (0.5 + self._world.jitter()))
            pause = min(pause * 2, self._settings.retry_longest_s)

    async def _deliver(self, event: Event) -> None:
        with self._telemetry.span_send(event.topic, key=event.key().encode(), message_id=event.event_id()):
            trace = self._telemetry.inject()
            await self._sender.send(encode(event, source=self._world.source, time=self._world.now(), trace=trace))

    async def _bury(self, message: Message, error: Exception, attempt: _Attempt) -> None:
        """Delivers the dead letter, or stops the process where there are too many of them."""
        log_it = log.warning if isinstance(error, (PentimentoError, Undecodable)) else log.exception
        log_it("dead_letter", group=self._group, topic=message.topic, partition=message.partition,
               offset=message.offset, upload_id=attempt.upload_id, kind=kind_of(error), why=str(error))  # fmt: skip
        if why := self._limit.exceeded_by_one_more():
            self._world.abort(exits.TOO_MANY_DEAD_LETTERS, f"{self._group}: {why}; look at `pentimento replay list`")
        letter = dead_letter(
            message, error, group=self._group, attempts=max(1, attempt.number), upload_id=attempt.upload_id,
            now=self._world.now(),
        )  # fmt: skip
        began = self._world.clock()
        while True:
            try:
                await self._deliver(letter)
                break
            except Unavailable:
                if self._world.clock() - began > self._settings.retry_for_s:
                    raise
                await asyncio.sleep(self._settings.retry_longest_s * (0.5 + self._world.jitter()))
        self._telemetry.metrics.dead_letters.labels(self._group, letter.kind).inc()


@dataclass(slots=True)
class _Attempt:
    """What is known of a message while it is worked on."""

    number: int = 0
    upload_id: str | None = None
