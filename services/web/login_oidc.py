"""Sign-in at the OpenID provider: there with a state, a nonce and a PKCE challenge, and back with a code.

In: a browser that wants in, and later its way back. Out: a session, or a page that says why not. The cookie that ties
the way back to the browser that left is SameSite=Lax, since the provider's page leads back; it is good for one sign-
in.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.clients.accounts import Account, People
from services.clients.oidc import Provider, SignInFailed
from services.clients.signins import FLOW_LASTS, Flow, SignIns
from services.core.access import NOBODY, Person, Role, granted, subject_of
from services.web.auth import local_path
from services.web.entering import Entrance
from services.web.pages import render
from services.web.parts import Parts
from services.web.problems import Refused

FLOW_COOKIE = "pentimento_sign_in"
PATH = "/login/oidc"

Word = Annotated[str | None, Query(max_length=4000)]


def router(parts: Parts, entrance: Entrance, provider: Provider) -> APIRouter:
    """There and back."""
    routes = APIRouter(include_in_schema=False)
    people, sign_ins = People(parts.database), SignIns(parts.database)

    @routes.get(PATH)
    async def there(request: Request, target: Annotated[str, Query(alias="next", max_length=2000)] = "/") -> Response:
        if (refusal := await entrance.too_many(request)) is not None:
            return refusal
        flow = Flow.new(local_path(target))
        response = RedirectResponse(await provider.address(flow), 303)
        response.set_cookie(
            FLOW_COOKIE,
            await sign_ins.leave(flow, parts.now()),
            max_age=int(FLOW_LASTS.total_seconds()),
            path=PATH,
            httponly=True,
            samesite="lax",
            secure=entrance.keeper.is_secure(request),
        )
        return response

    @routes.get(f"{PATH}/callback")
    async def back(
        request: Request, code: Word = None, state: Word = None, iss: Word = None, error: Word = None
    ) -> Response:
        if (refusal := await entrance.too_many(request)) is not None:
            return refusal
        flow = await sign_ins.back(request.cookies.get(FLOW_COOKIE, ""), parts.now())
        if flow is None or state is None or not hmac.compare_digest(flow.state.encode(), state.encode()):
            raise await _failed(entrance, request, "the way back does not belong to this browser, or took too long")
        if code is None:
            raise await _failed(entrance, request, f"the provider says {error or 'nothing'}")
        claims = await provider.claims(code, flow, issuer=iss)
        if isinstance(claims, SignInFailed):
            raise await _failed(entrance, request, claims.why)
        response = await _welcomed(entrance, people, request, _account(entrance, claims, parts), claims, flow.target)
        response.delete_cookie(FLOW_COOKIE, path=PATH)
        return response

    return routes


def _account(entrance: Entrance, claims: Mapping[str, Any], parts: Parts) -> Account | None:
    """The account that these claims make; None where they give no role."""
    grant = granted(claims, entrance.options.claims)
    if grant is None:
        return None
    known = _known(claims)
    email = claims.get("email")
    return Account(
        subject=known.subject,
        name=known.name,
        email=email if isinstance(email, str) else None,
        role=grant.role,
        tenants=grant.tenants,
        origin="oidc",
        seen_at=parts.now(),
    )


def _known(claims: Mapping[str, Any]) -> Person:
    """Somebody as the provider calls them, without any right."""
    words = (claims.get(name) for name in ("name", "preferred_username", "email", "sub"))
    name = next(word for word in words if isinstance(word, str) and word.strip())
    subject = subject_of(str(claims["iss"]), str(claims["sub"]))
    return Person(subject, name[:200], Role.VIEWER, frozenset())


async def _welcomed(
    entrance: Entrance,
    people: People,
    request: Request,
    account: Account | None,
    claims: Mapping[str, Any],
    target: str,
) -> Response:
    options = entrance.options
    if account is None:
        person = _known(claims)
        await entrance.refuse(request, "oidc", person=person, details={"why": "no role"})
        words = {"name": person.name, "provider": options.provider_name, "claim": options.claims.claim}
        return render("no_access.html", {**words, "disabled": False}, status=403)
    stored = await people.come(account)
    if stored.disabled:
        await entrance.refuse(request, "oidc", person=stored.person, details={"why": "disabled"})
        words = {"name": stored.name, "provider": options.provider_name, "claim": options.claims.claim}
        return render("no_access.html", {**words, "disabled": True}, status=403)
    return await entrance.enter(request, stored.person, "oidc", target)


async def _failed(entrance: Entrance, request: Request, why: str) -> Refused:
    await entrance.refuse(request, "oidc", person=NOBODY, details={"why": why[:500]})
    again = f"{PATH}?{urlencode({'next': '/'})}"
    return Refused(401, "sign_in_failed", f"The sign-in did not work. Start again at {again}.")
