"""Rate limits: so many requests a second from one address, and from one person or token.

In: requests. Out: the app's answer with `RateLimit-*` headers, or 429 with `Retry-After`. The addresses are counted
around the gate, so that guessing tokens is limited, too; people inside of it. Buckets live in the process: two web
processes let through up to twice as much, and no request waits for a database (docs/decisions/0031).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.pace import Bucket, Pace, Taken, full, take
from services.metrics import Metrics
from services.settings import LimitSettings
from services.web.access import address_of, person_of
from services.web.auth import is_loopback
from services.web.gate import HEADERS
from services.web.problems import Problem, answer

UNCOUNTED = ("/healthz", "/readyz", "/metrics")
"""Probes. Static files too."""

MOST_BUCKETS = 50_000
"""Of those who have not asked for longest, the bucket is forgotten: to them it is full again."""

WhoAsks = Callable[[Request], str]


class Limiter:
    """ASGI middleware that counts by what `who` says; `per_s` 0 sets no limit. `clock` is a steady one, in seconds."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        by: str,
        who: WhoAsks,
        per_s: float,
        settings: LimitSettings,
        metrics: Metrics,
        clock: Callable[[], float] = monotonic,
        most: int = MOST_BUCKETS,
    ) -> None:
        self._app = app
        self._by = by
        self._who = who
        self._pace = Pace(per_s, max(1.0, per_s * settings.burst_s)) if per_s > 0 else None
        self._loopback = settings.loopback
        self._refused = metrics.limited.labels(by)
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pace is None or scope["type"] != "http" or self._uncounted(Request(scope)):
            await self._app(scope, receive, send)
            return
        request, pace = Request(scope), self._pace
        taken = self._take(self._who(request), pace)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                _tell(MutableHeaders(scope=message), taken, pace)
            await send(message)

        if taken.fits:
            await self._app(scope, receive, told)
            return
        self._refused.inc()
        wait = {"retry-after": str(max(1, math.ceil(taken.wait_s)))}
        text = f"More than {pace.per_s:g} requests a second from this {self._by}: try again in {wait['retry-after']} s."
        response = answer(request, Problem(429, "too_many_requests", text, wait))
        response.headers.update({**HEADERS, "cache-control": "no-store"})  # the gate may be inside of us
        await response(scope, receive, told)

    def _uncounted(self, request: Request) -> bool:
        path = request.url.path
        ours = not self._loopback and is_loopback(request.client.host if request.client else "")
        return ours or path in UNCOUNTED or path.startswith("/static/")

    def _take(self, who: str, pace: Pace) -> Taken:
        now = self._clock()
        taken = take(self._buckets.get(who) or full(pace, now), pace, now)
        self._buckets[who] = taken.bucket
        self._buckets.move_to_end(who)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return taken


def subject_of(request: Request) -> str:
    """The person's or token's name; on the ways to sign in, which nobody has taken yet, the address."""
    return person_of(request).subject if hasattr(request.state, "person") else address_of(request)


def _tell(headers: MutableHeaders, taken: Taken, pace: Pace) -> None:
    """What is left, by the limit that is nearer to its end where two of them count."""
    left = math.floor(taken.bucket.left)
    if int(headers.get("ratelimit-remaining", str(left))) < left:
        return
    headers["ratelimit-limit"] = str(math.floor(pace.burst))
    headers["ratelimit-remaining"] = str(left)
    headers["ratelimit-reset"] = str(math.ceil(taken.full_s))
