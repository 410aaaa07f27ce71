"""Ways to sign in without a provider: the web token in a form, or a one-time link; and the way out.

In: the token, or the ticket of a link. Out: a session cookie (HttpOnly, SameSite=Strict) and the way on. A link has
its ticket behind the `#`, where no server's log and no other site sees it; a script puts it into the form.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.clients.accounts import People
from services.clients.signins import SignIns
from services.core.access import HOLDER, Role
from services.web.access import Who, at_least
from services.web.auth import local_path
from services.web.current import Came
from services.web.entering import Entrance
from services.web.pages import render
from services.web.parts import Parts

Target = Annotated[str, Query(alias="next", max_length=2000)]


def router(parts: Parts, entrance: Entrance) -> APIRouter:
    """The forms and their targets."""
    routes = APIRouter(include_in_schema=False)
    keeper = entrance.keeper
    people, sign_ins = People(parts.database), SignIns(parts.database)

    @routes.get("/login")
    async def form(target: Target = "/") -> Response:
        if keeper.is_open:
            return RedirectResponse("/", 303)
        return _form(entrance, target)

    @routes.post("/login")
    async def enter(
        request: Request,
        token: Annotated[str, Form(max_length=1000)] = "",
        target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
    ) -> Response:
        if (refusal := await entrance.too_many(request)) is not None:
            return refusal
        if not keeper.token.knows(token.strip()):
            await entrance.refuse(request, "token")
            return _form(entrance, target, wrong=True)
        return await entrance.enter(request, HOLDER, "token", target)

    @routes.get("/enter")
    async def link() -> Response:
        return render("enter.html", {"wrong": False})

    @routes.post("/enter")
    async def redeem(request: Request, ticket: Annotated[str, Form(max_length=200)] = "") -> Response:
        if (refusal := await entrance.too_many(request)) is not None:
            return refusal
        subject = await sign_ins.redeem(ticket.strip(), parts.now())
        account = None if subject is None else await people.get(subject)
        if account is None or account.disabled:
            await entrance.refuse(request, "link")
            return render("enter.html", {"wrong": True}, status=401)
        return await entrance.enter(request, account.person, "link", "/")

    @routes.post("/logout", dependencies=[Depends(at_least(Role.VIEWER))])
    async def leave(request: Request, person: Who) -> Response:
        came: Came = request.state.came
        if came.session is not None:
            await parts.audit.record(person, "signed_out")
            await keeper.sessions.end(person.subject, came.session.id)
        return entrance.left(request)

    return routes


def _form(entrance: Entrance, target: str, *, wrong: bool = False) -> Response:
    options = entrance.options
    values = {
        "target": local_path(target),
        "wrong": wrong,
        "has_token": entrance.keeper.token.is_set,
        "provider": options.provider_name if options.provider is not None else None,
    }
    return render("login.html", values, status=401 if wrong else 200)
