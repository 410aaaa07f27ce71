"""What every way to sign in ends in: a session, its cookie, the way on, and a line in the audit log. Or a refusal.

In: somebody who has just proved who they are, or failed to. Out: a response. The cookie is SameSite=Strict: a browser
that comes back from the provider keeps it to itself until a page of ours asks, so the way on leads through one
(`onward.html`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.clients.audit import Audit
from services.clients.sessions import Method
from services.core.access import NOBODY, Person
from services.web.access import address_of
from services.web.auth import COOKIE, local_path
from services.web.identity import Gatekeeper
from services.web.pages import render
from services.web.parts import SignInOptions
from services.web.patience import Patience
from services.web.problems import Problem, answer


@dataclass(frozen=True, slots=True)
class Entrance:
    """What the routes of every way to sign in share."""

    keeper: Gatekeeper
    patience: Patience
    audit: Audit
    options: SignInOptions

    async def too_many(self, request: Request) -> Response | None:
        """The answer to an address that was wrong too often; None where it may try."""
        wait_s = await self.patience.wait_s(request)
        if not wait_s:
            return None
        headers = {"retry-after": str(math.ceil(wait_s))}
        text = f"Too many sign-ins from this address failed. Try again in {math.ceil(wait_s / 60)} min."
        return answer(request, Problem(429, "too_many_attempts", text, headers))

    async def enter(self, request: Request, person: Person, method: Method, target: str) -> Response:
        """Signed in. What is not written down does not happen: the log comes before the session."""
        await self.audit.record(person, "signed_in", details={"by": method, "address": address_of(request)})
        cookie = await self.keeper.begin(request, person.subject, method)
        if method == "oidc":
            response: Response = render("onward.html", {"target": local_path(target)})
        else:
            response = RedirectResponse(local_path(target), 303)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(self.options.lasts.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=self.keeper.is_secure(request),
        )
        return response

    async def refuse(
        self, request: Request, by: str, *, person: Person = NOBODY, details: Mapping[str, Any] | None = None
    ) -> None:
        """Count and write down that somebody was not let in: one by one at first, then not at the pace of an attack."""
        if await self.patience.failed(request):
            said = {"by": by, "address": address_of(request), **(details or {})}
            await self.audit.record(person, "sign_in_refused", details=said)

    def left(self, request: Request) -> Response:
        """To the login, without the cookie."""
        response = RedirectResponse("/login?next=/", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=self.keeper.is_secure(request))
        return response
