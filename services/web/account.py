"""One's own account: who am I, where am I signed in, my tokens. A page, and its JSON twin.

In: whoever makes the request. Out: what is known of them. A session ends by its row's end, at once and everywhere. A
token can only be made in a browser: one that leaked must not make others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.clients.sessions import Session
from services.clients.tokens import ApiToken, Tokens
from services.core.access import EVERYTHING, Grant, Person, Role
from services.web.access import Who, at_least
from services.web.current import Came
from services.web.entering import Entrance
from services.web.pages import render
from services.web.paging import LARGEST_ID
from services.web.problems import Refused
from services.web.registrar import Registrar
from services.web.tokens import MOST_DAYS, Days, IssuedToken, Name, TokenShown, shown

PAGE = "/account"
ANYBODY = [Depends(at_least(Role.VIEWER))]


class SessionShown(BaseModel):
    """A browser that is signed in. `current`: the one that asks."""

    id: int
    method: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool


class AccountShown(BaseModel):
    """Who makes the request."""

    subject: str
    name: str
    role: Role
    tenants: list[str]
    sessions: list[SessionShown]
    tokens: list[TokenShown]


class OwnToken(BaseModel):
    """A token of one's own: it may what its owner may at any time."""

    name: Name
    days: Days = 90


def pages(registrar: Registrar, entrance: Entrance) -> APIRouter:
    """The page and the targets of its forms."""
    routes = APIRouter(prefix=PAGE, include_in_schema=False, dependencies=ANYBODY)

    async def page(request: Request, person: Person, *, secret: str | None = None, of: str = "") -> Response:
        known = await _known(registrar, request, person)
        own = _has_account(request)
        return render("account.html", {"account": known, "secret": secret, "of": of, "may_have_tokens": own})

    @routes.get("")
    async def mine(request: Request, person: Who) -> Response:
        return await page(request, person)

    @routes.post("/sessions/end")
    async def end(
        request: Request, person: Who, session_id: Annotated[int | None, Form(alias="id", ge=1, le=LARGEST_ID)] = None
    ) -> Response:
        await _end(registrar, person, session_id)
        came: Came = request.state.came
        gone = came.session is not None and session_id in (None, came.session.id)
        return entrance.left(request) if gone else RedirectResponse(PAGE, 303)

    @routes.post("/tokens")
    async def create(
        request: Request,
        person: Who,
        name: Annotated[str, Form(max_length=100)] = "",
        days: Annotated[int, Form(ge=1, le=MOST_DAYS)] = 90,
    ) -> Response:
        secret, token = await _issue(registrar, request, person, name, days)
        return await page(request, person, secret=secret, of=token.name)

    @routes.post("/tokens/revoke")
    async def revoke(person: Who, token_id: Annotated[int, Form(alias="id", ge=1, le=LARGEST_ID)]) -> Response:
        await registrar.revoke(person, token_id, owner=person.subject)
        return RedirectResponse(PAGE, 303)

    return routes


def api(registrar: Registrar) -> APIRouter:
    """Its JSON twin."""
    routes = APIRouter(prefix="/api/v1/account", dependencies=ANYBODY)

    @routes.get("")
    async def mine(request: Request, person: Who) -> AccountShown:
        return await _known(registrar, request, person)

    @routes.delete("/sessions")
    async def end_all(person: Who) -> dict[str, int]:
        return {"ended": await _end(registrar, person, None)}

    @routes.delete("/sessions/{session_id}")
    async def end(person: Who, session_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> dict[str, int]:
        return {"ended": await _end(registrar, person, session_id)}

    @routes.post("/tokens", status_code=201)
    async def create(request: Request, person: Who, new: OwnToken) -> IssuedToken:
        secret, token = await _issue(registrar, request, person, new.name, new.days)
        return IssuedToken(**shown(token).model_dump(), secret=secret)

    @routes.delete("/tokens/{token_id}", status_code=204)
    async def revoke(person: Who, token_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> None:
        await registrar.revoke(person, token_id, owner=person.subject)

    return routes


async def _known(registrar: Registrar, request: Request, person: Person) -> AccountShown:
    came: Came = request.state.came
    current = came.session.id if came.session is not None else None
    sessions = await registrar.sessions.of(person.subject, registrar.parts.now())
    tokens = await Tokens(registrar.parts.database).all(owner=person.subject)
    return AccountShown(
        subject=person.subject,
        name=person.name,
        role=person.role,
        tenants=[EVERYTHING] if person.tenants is None else sorted(person.tenants),
        sessions=[_session(each, current) for each in sessions],
        tokens=[shown(each) for each in tokens],
    )


def _session(session: Session, current: int | None) -> SessionShown:
    return SessionShown(
        id=session.id,
        method=session.method,
        agent=session.agent,
        created_at=session.created_at,
        seen_at=session.seen_at,
        expires_at=session.expires_at,
        current=session.id == current,
    )


async def _end(registrar: Registrar, person: Person, session_id: int | None) -> int:
    details = {"session": "all" if session_id is None else session_id}
    await registrar.parts.audit.record(person, "sessions_ended", details=details)
    return await registrar.sessions.end(person.subject, session_id)


def _has_account(request: Request) -> bool:
    came: Came = request.state.came
    return came.session is not None and came.session.account is not None


async def _issue(
    registrar: Registrar, request: Request, person: Person, name: str, days: int | None
) -> tuple[str, ApiToken]:
    if not _has_account(request):
        text = "Only somebody with an account who is signed in with a browser makes tokens of their own."
        raise Refused(403, "account_required", text)
    return await registrar.issue(person, name, Grant(person.role, person.tenants), owner=person.subject, days=days)
