"""The way in and out of every request: host, origin, token; error envelope; security headers.

In: any request. Out: the app's answer, or a problem, with headers that keep browsers strict. One ASGI middleware, so
that no route can be forgotten.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.core.access import LOCAL
from services.web.auth import Gatekeeper, from_foreign_page
from services.web.problems import Problem, answer, problem_of, wants_page

OPEN = ("/healthz", "/readyz", "/login")
"""Answered without a token: probes, which say no more than yes or no, and the login itself. Static files too."""

POLICY = "content-security-policy"
HEADERS = {
    POLICY: (
        "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, keeper: Gatekeeper) -> None:
        self._app = app
        self._keeper = keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _harden(MutableHeaders(scope=message))
            await send(message)

        request = Request(scope, receive)
        try:
            refusal = self._refusal(request)
            if refusal is None:
                request.state.person = LOCAL  # one token for all, or nobody else on this machine
                await self._app(scope, receive, guarded)
            else:
                await refusal(scope, receive, guarded)
        except Exception as error:
            problem = problem_of(error)
            if started:
                raise  # half an answer is out: the server has to cut the connection
            await answer(request, problem)(scope, receive, guarded)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not come in."""
        path = request.url.path
        if not self._keeper.trusts_host(request.headers):
            text = "Without a token this is served on loopback names only: use 127.0.0.1 or set PENTIMENTO_WEB__TOKEN."
            return answer(request, Problem(421, "wrong_host", text))
        if not self._keeper.bears(request.headers) and from_foreign_page(request.method, request.headers):
            return answer(request, Problem(403, "foreign_page", "Another site's page sent this request."))
        if path in OPEN or path.startswith("/static/") or self._keeper.admits(request.headers, request.cookies):
            return None
        if wants_page(request) and request.method == "GET":
            target = path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
        text = "Send `Authorization: Bearer <token>`; the token is PENTIMENTO_WEB__TOKEN."
        return answer(request, Problem(401, "token_required", text, {"www-authenticate": "Bearer"}))


def _harden(headers: MutableHeaders) -> None:
    # What runs no script and reaches nothing is strict enough.
    sandboxed = headers.get(POLICY, "").startswith("sandbox;")
    for name, value in HEADERS.items():
        if not (sandboxed and name == POLICY):
            headers[name] = value
    if "cache-control" not in headers:
        headers["cache-control"] = "no-store"
