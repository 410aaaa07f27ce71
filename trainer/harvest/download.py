"""Pictures from the web, politely.

In: URLs. Out: `Delivery` or `Refusal` for each, as they come. Every request, those that a redirect leads to as well,
goes through `services.clients.fetch`, which decides whether a host and its address may be asked at all; then through
the host's robots.txt and its lane. A host whose robots.txt cannot be read is not asked for anything (RFC 9309,
2.3.1.4); one that has none may be asked for everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import httpx

from services.clients.fetch import FETCHES_AT_ONCE, Answer, Fetcher, may_recover, shown
from services.core.errors import Rejected, Unavailable
from trainer.harvest.lanes import Lane, Pace
from trainer.harvest.robots import EVERYTHING, Rules, rules

PRODUCT = "pentimento"
"""The name that a robots.txt knows us by."""

MAX_HOPS = 5
"""Redirects that are followed, as many as RFC 9309 asks for."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The bytes behind a URL, and the URL that they came from in the end."""

    url: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there are no bytes. `postponed` is worth another run, the others are not.

    robots: the host asks programs not to. not_allowed: host, port or address is not on our lists. failed: the URL's
    fault. postponed: the host was away, slow, or wants to be asked later.
    """

    state: Literal["robots", "not_allowed", "failed", "postponed"]
    why: str


class _Forbidden(Exception):
    """A robots.txt forbids it."""


class _Later(Exception):
    """The host `lane` did not answer as it should; it wishes to be asked again in `wish_s`."""

    def __init__(self, why: str, lane: Lane, wish_s: float | None) -> None:
        super().__init__(why)
        self.lane, self.wish_s = lane, wish_s


def agent(contact: str, version: str) -> str:
    """The User-Agent: who asks, and where to complain."""
    return f"{PRODUCT}-harvest/{version}" + (f" (+{contact})" if contact else "")


class Downloader:
    """Fetches with one pace for all hosts; used in one event loop."""

    def __init__(self, fetcher: Fetcher, pace: Pace) -> None:
        self._fetcher = fetcher
        self._pace = pace
        self._lanes: dict[str, Lane] = {}
        self._rules: dict[str, asyncio.Task[Rules]] = {}
        self._running = asyncio.Semaphore(FETCHES_AT_ONCE)

    async def fetch_all(self, urls: Iterable[str], settled: Callable[[str, Delivery | Refusal], None]) -> None:
        """Fetches each URL once and tells `settled` of it. Hosts are asked side by side, each in the order given."""
        by_host: dict[str, list[str]] = {}
        for url in dict.fromkeys(urls):
            by_host.setdefault(_host(url), []).append(url)

        async def work(waiting: list[str]) -> None:
            while waiting:
                url = waiting.pop()
                settled(url, await self._outcome(url))

        async with asyncio.TaskGroup() as group:
            for of_host in by_host.values():
                of_host.reverse()
                for _ in range(min(self._pace.at_once, len(of_host))):
                    group.create_task(work(of_host))

    async def _outcome(self, url: str) -> Delivery | Refusal:
        try:
            return await self._delivered(url)
        except _Forbidden as why:
            return Refusal("robots", str(why))
        except _Later as later:
            later.lane.missed(str(later), later.wish_s)
            return Refusal("postponed", str(later))
        except Rejected as error:
            return Refusal("not_allowed" if error.code == "url_not_allowed" else "failed", error.message)

    async def _delivered(self, url: str) -> Delivery:
        """Follows a URL to its picture, several times if need be. Raises _Forbidden, _Later, Rejected."""
        attempt = 0
        while True:
            try:
                return await self._followed(url)
            except _Later as later:
                if later.lane.away or not later.lane.pause(attempt, later.wish_s):
                    raise
                attempt += 1

    async def _followed(self, url: str) -> Delivery:
        at = url
        for _ in range(MAX_HOPS + 1):
            self._fetcher.check(at)
            lane = self._lane(at)
            known = await self._rules_of(at, lane)
            if not known.allow(at):
                raise _Forbidden(f"the robots.txt of {_host(at)} forbids {shown(at)}")
            answer = await self._asked(at, lane)
            if answer.location is None:
                return Delivery(at, _body(answer))
            at = answer.location
        raise Rejected("url_failed", f"{shown(url)}: more than {MAX_HOPS} redirects")

    async def _asked(self, url: str, lane: Lane) -> Answer:
        """One request in the host's turn. Raises _Later, Rejected."""
        if lane.away:
            raise _Later(lane.away, lane, None)
        async with lane.turn(), self._running:
            try:
                answer = await self._fetcher.ask(url)
            except Unavailable as error:
                raise _Later(str(error), lane, error.retry_after_s) from error
        if may_recover(answer.status):
            raise _Later(f"{shown(url)} answered {answer.status}", lane, answer.retry_after_s)
        lane.delivered()
        return answer

    async def _rules_of(self, url: str, lane: Lane) -> Rules:
        """The rules of the URL's host, asked for once in a run. Raises _Later, Rejected, as its robots.txt did."""
        origin = _origin(url)
        asking = self._rules.get(origin)
        if asking is None or (asking.done() and isinstance(asking.exception(), _Later)):
            asking = self._rules[origin] = asyncio.create_task(self._read_rules(origin, lane))
        return await asyncio.shield(asking)

    async def _read_rules(self, origin: str, lane: Lane) -> Rules:
        at = f"{origin}/robots.txt"
        for _ in range(MAX_HOPS + 1):
            answer = await self._asked(at, self._lane(at))
            if answer.location is None:
                found = rules(answer.body, PRODUCT) if 200 <= answer.status < 300 else EVERYTHING
                lane.slow_down(found.delay_s)
                return found
            at = answer.location
        return EVERYTHING  # more redirects than anybody has to follow count as no robots.txt

    def _lane(self, url: str) -> Lane:
        return self._lanes.setdefault(_host(url), Lane(self._pace))


def _body(answer: Answer) -> bytes:
    if 200 <= answer.status < 300:
        return answer.body
    raise Rejected("url_failed", f"{shown(answer.url)} answered {answer.status}")


def _host(url: str) -> str:
    """The host that a URL names, for turns; "" where it names none. Whether it may be asked is not decided here."""
    try:
        return httpx.URL(url).host.rstrip(".")
    except (httpx.InvalidURL, ValueError):
        return ""


def _origin(url: str) -> str:
    """Scheme, host and port, which have one robots.txt. Raises Rejected where the URL is none."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise Rejected("url_not_allowed", f"{shown(url)!r} is no URL: {error}") from error
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"
