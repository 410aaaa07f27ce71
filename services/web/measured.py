"""How many requests the web process answers, with what, and how long they take.

In: every request. Out: `pentimento_web_requests_total` and `pentimento_web_request_seconds`, by the pattern of the
route, never by its path: paths hold ids. What stays open on purpose (server-sent events) is counted and not timed.
"""

from __future__ import annotations

from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.metrics import Metrics

NOWHERE = "none"
"""The route of a request that no route answers: a refusal at the gate, a path that does not exist, a static file."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Measured:
    """ASGI middleware around everything, the gate included."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, streams = 500, False

        async def seen(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = dict(message.get("headers", ()))
                streams = headers.get(b"content-type", b"").startswith(b"text/event-stream")
            await send(message)

        started = perf_counter()
        try:
            await self._app(scope, receive, seen)
        finally:
            route = getattr(scope.get("route"), "path", NOWHERE)
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            self._metrics.web_requests.labels(route, method, str(status)).inc()
            if not streams:
                self._metrics.web_seconds.labels(route).observe(perf_counter() - started)
