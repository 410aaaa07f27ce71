"""The live feed: verdicts as they arrive, to every browser that looks, by server-sent events.

In: the table of verdicts in the order of their arrival. Out: one stream a browser. One loop a process reads the table,
however many look on, and none while nobody does. A browser that was cut off says what it saw last (`Last-Event-ID`) and
is told the rest. See docs/decisions/0030-live-feed.md.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.clients.feed import LOOK_BACK, Arrival, Arrivals
from services.core.access import Person, Role
from services.core.errors import PentimentoError
from services.web.access import Who, at_least, seen
from services.web.pages import verdict_link
from services.web.problems import Refused

log = structlog.get_logger()
POLL_S = 0.5
AWAY_S = 5.0  # between two tries while the database is away
HEARTBEAT_S = 15.0  # proxies cut what is silent for half a minute
SEND_S = 20.0  # a browser that takes nothing for so long is cut
RETRY_MS = 3000  # how long a browser waits before it comes back
QUEUE = 200  # verdicts that wait for one browser
AT_ONCE = 200  # verdicts that are read at once
REPLAYED = 500  # missed verdicts that a browser is told; beyond that it is told to load the page anew
PER_PERSON = 6
LONGEST_S = 600.0  # a stream; the browser comes back, and whoever was signed out meanwhile is not let in again


@dataclass(eq=False, slots=True)
class Listener:
    """One browser, and the places that it was told of when it came. `cut` ends its stream."""

    person: Person
    tenant: str | None
    told: set[int] = field(default_factory=set)
    waiting: asyncio.Queue[Arrival | None] = field(default_factory=lambda: asyncio.Queue(QUEUE + 1))

    def hear(self, arrival: Arrival) -> None:
        """One more verdict, if it is one for them."""
        tenant = arrival.verdict.tenant
        if not self.person.sees(tenant) or self.tenant not in (None, tenant):
            return
        if self.waiting.qsize() >= QUEUE:
            log.warning("live_cut", person=self.person.subject, waiting=self.waiting.qsize())
            self.cut()
        else:
            self.waiting.put_nowait(arrival)

    def cut(self) -> None:
        """No more; what waits is dropped, since the browser will ask for it again."""
        while not self.waiting.empty():
            self.waiting.get_nowait()
        self.waiting.put_nowait(None)


class Feed:
    """Everybody who looks on, and the loop that reads for them."""

    def __init__(self, arrivals: Arrivals, *, most: int, replayed: int = REPLAYED) -> None:
        self._arrivals = arrivals
        self._most = most
        self._replayed = replayed
        self._listeners: set[Listener] = set()
        self._reading: asyncio.Task[None] | None = None
        self._placed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Ends every stream, for the end of the process."""
        self._closed = True
        for listener in self._listeners:
            listener.cut()

    def admit(self, person: Person) -> None:
        """Raises Refused (503) where too many look on already, all together or this person alone."""
        own = sum(listener.person.subject == person.subject for listener in self._listeners)
        if self._closed or len(self._listeners) >= self._most or (own >= PER_PERSON and person.subject != "local"):
            raise Refused(503, "too_many_live", "Too many pages follow the live feed; close one, or reload later.")

    async def stream(self, person: Person, tenant: str | None, last: int | None) -> AsyncGenerator[str, None]:
        """What a browser reads, from what it missed since `last` on, until it goes or is cut."""
        listener = Listener(person, tenant)
        self._listeners.add(listener)  # first, so that nothing falls between what is read here and what is heard
        try:
            if self._reading is None or self._reading.done():
                self._placed.clear()
                self._reading = asyncio.create_task(self._read())
                self._reading.add_done_callback(self._ended)
            yield f"retry: {RETRY_MS}\n: welcome\n\n"
            while not await _within(self._placed.wait(), HEARTBEAT_S):
                yield ": waiting for the database\n\n"
            async for piece in self._missed(listener, last):
                yield piece
            clock = asyncio.get_running_loop().time
            end = clock() + LONGEST_S
            while clock() < end:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        arrival = await listener.waiting.get()
                except TimeoutError:
                    yield ": alive\n\n"
                    continue
                if arrival is None:
                    return
                if arrival.place not in listener.told:
                    yield written(arrival)
        finally:
            self._listeners.discard(listener)

    async def _missed(self, listener: Listener, last: int | None) -> AsyncGenerator[str, None]:
        """What came since `last`. A browser that looks back further than it has to may hear of something twice."""
        if last is None:
            return
        person, tenant = listener.person, listener.tenant
        tenants = person.tenants if tenant is None else [tenant]
        missed = await self._arrivals.after(last, limit=self._replayed + 1, tenants=tenants)
        if len(missed) > self._replayed:
            newest, _ = await self._arrivals.newest()
            yield f"event: gap\nid: {newest}\ndata: {{}}\n\n"
            return
        for arrival in missed:
            listener.told.add(arrival.place)
            yield written(arrival)

    def _ended(self, reading: asyncio.Task[None]) -> None:
        """Where the loop broke, nobody may wait for it in vain: browsers come back, and it begins anew."""
        if not reading.cancelled() and (error := reading.exception()) is not None:
            log.error("live_broke", exc_info=error)
            for listener in self._listeners:
                listener.cut()

    async def _read(self) -> None:
        """Reads while somebody looks on."""
        place: int | None = None
        known: set[int] = set()
        while self._listeners:
            try:
                if place is None:
                    place, taken = await self._arrivals.newest()
                    known = set(taken)
                    self._placed.set()  # what was missed may be read from now on: nothing falls in between
                found = await self._arrivals.after(place - LOOK_BACK, limit=AT_ONCE, but=known)
            except PentimentoError as error:
                log.warning("live_away", why=str(error))
                await asyncio.sleep(AWAY_S)
                continue
            for arrival in found:
                for listener in tuple(self._listeners):
                    listener.hear(arrival)
            place = max([place, *(arrival.place for arrival in found)])
            known = {each for each in (*known, *(arrival.place for arrival in found)) if each > place - LOOK_BACK}
            if len(found) < AT_ONCE:
                await asyncio.sleep(POLL_S)


class EventStream(StreamingResponse):
    """Server-sent events to a browser that must take them: one that takes nothing for `SEND_S` loses its connection."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_S):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        except* TimeoutError:
            log.warning("live_cut", why="it took nothing")


def router(feed: Feed) -> APIRouter:
    """The one route."""
    routes = APIRouter(dependencies=[Depends(at_least(Role.VIEWER))])

    @routes.get(
        "/api/v1/verdicts/live", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}}
    )
    async def live(
        person: Who,
        tenant: Annotated[str | None, Query(max_length=100, description="Only this tenant's verdicts.")] = None,
        last_event_id: Annotated[str | None, Header(max_length=30, description="The last id that was heard.")] = None,
        after: Annotated[int | None, Query(ge=0, description="The same, where no header can be sent.")] = None,
    ) -> Response:
        """Verdicts as they arrive, as server-sent events `verdict`; `gap` says that some were left out."""
        if tenant:
            seen(person, tenant)
        feed.admit(person)
        last = int(last_event_id) if last_event_id and last_event_id.isdecimal() else after
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return EventStream(feed.stream(person, tenant or None, last), headers=headers)

    return routes


async def _within(waited: Awaitable[object], timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await waited
    except TimeoutError:
        return False
    return True


def written(arrival: Arrival) -> str:
    """A verdict as an event: what a list shows, and where the rest is."""
    verdict = arrival.verdict
    data = {
        "tenant": verdict.tenant,
        "upload_id": verdict.upload_id,
        "revision": verdict.revision,
        "decision": verdict.decision.value,
        "path": verdict.path.value,
        "score": verdict.score,
        "filename": verdict.filename,
        "reason": verdict.reasons[0].text,
        "judged_at": verdict.judged_at.isoformat(),
        "page": verdict_link(verdict.tenant, verdict.upload_id),
        "verdict": verdict_link(verdict.tenant, verdict.upload_id, api=True),
    }
    return f"event: verdict\nid: {arrival.place}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
