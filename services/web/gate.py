"""The way in and out of every request: host, origin, who it is; error envelope; security headers.

In: any request. Out: the app's answer, or a problem, with headers that keep browsers strict. One ASGI middleware, so
that no route can be forgotten.
"""

from __future__ import annotations

import math
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.clients.audit import Audit
from services.core.access import NOBODY
from services.web.access import address_of
from services.web.auth import SAFE_METHODS, bearer_of, follows_foreign_link, from_foreign_page, local_path
from services.web.csrf import same, sent_token
from services.web.current import CAME, Came
from services.web.identity import Gatekeeper
from services.web.pages import render
from services.web.patience import Patience
from services.web.problems import Problem, answer, problem_of, wants_page

OPEN = ("/healthz", "/readyz", "/login", "/login/oidc", "/login/oidc/callback", "/enter")
"""Answered to anybody: probes, which say no more than yes or no, and the ways to sign in. Static files too."""

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

    def __init__(self, app: ASGIApp, keeper: Gatekeeper, patience: Patience, audit: Audit) -> None:
        self._app = app
        self._keeper = keeper
        self._patience = patience
        self._audit = audit

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
        CAME.set(None)
        try:
            refused, receive = await self._let_in(request, receive)
            await (refused or self._app)(scope, receive, guarded)
        except Exception as error:
            problem = problem_of(error)
            if started:
                raise  # half an answer is out: the server has to cut the connection
            await answer(request, problem)(scope, receive, guarded)

    async def _let_in(self, request: Request, receive: Receive) -> tuple[Response | None, Receive]:
        """The answer to a request that may not come in, or None; and its body for whoever reads it next."""
        if not self._keeper.trusts_host(request.headers):
            text = "Without a token this is served on loopback names only: use 127.0.0.1 or set PENTIMENTO_WEB__TOKEN."
            return answer(request, Problem(421, "wrong_host", text)), receive
        bearer = bearer_of(request.headers)
        if bearer is None and from_foreign_page(request.method, request.headers):
            return answer(request, Problem(403, "foreign_page", "Another site's page sent this request.")), receive
        if request.url.path in OPEN or request.url.path.startswith("/static/"):
            return None, receive
        if bearer is not None:
            return await self._bearing(request, bearer), receive
        came = await self._keeper.visitor(request)
        if came is None:
            return _asked_to_sign_in(request), receive
        if came.session is not None and request.method not in SAFE_METHODS:
            sent, receive = await sent_token(request, receive)
            if not same(sent, came.csrf):
                text = "The request does not carry the token of its page: load the page again, then repeat."
                return answer(request, Problem(403, "csrf_token_missing", text)), receive
        _welcome(request, came)
        return None, receive

    async def _bearing(self, request: Request, token: str) -> Response | None:
        person = await self._keeper.bearer(token)
        if person is not None:
            _welcome(request, Came(person))
            return None
        wait_s = await self._patience.wait_s(request)
        if wait_s:
            headers = {"retry-after": str(math.ceil(wait_s))}
            return answer(request, Problem(429, "too_many_attempts", "Too many wrong tokens: wait.", headers))
        if await self._patience.failed(request):
            await self._audit.record(
                NOBODY, "sign_in_refused", details={"by": "bearer", "address": address_of(request)}
            )
        return _token_required(request)


def _welcome(request: Request, came: Came) -> None:
    request.state.person = came.person
    request.state.came = came
    CAME.set(came)


def _asked_to_sign_in(request: Request) -> Response:
    """To the login, and back from there; programs are told what to send."""
    if not wants_page(request) or request.method != "GET":
        return _token_required(request)
    # A path such as `//evil.example/x` would be another host's address.
    target = local_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    if follows_foreign_link(request.method, request.headers):
        return render("onward.html", {"target": target})  # the next request is our own page's, and brings the cookie
    return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)


def _token_required(request: Request) -> Response:
    text = "Send `Authorization: Bearer <token>`: an API token of yours, or PENTIMENTO_WEB__TOKEN."
    return answer(request, Problem(401, "token_required", text, {"www-authenticate": "Bearer"}))


def _harden(headers: MutableHeaders) -> None:
    # What runs no script and reaches nothing is strict enough.
    sandboxed = headers.get(POLICY, "").startswith("sandbox;")
    for name, value in HEADERS.items():
        if not (sandboxed and name == POLICY):
            headers[name] = value
    if "cache-control" not in headers:
        headers["cache-control"] = "no-store"
