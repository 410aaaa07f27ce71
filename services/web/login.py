"""The login form: the token once, then a cookie that scripts cannot read and other sites cannot send.

In: the token from the form. Out: a session cookie (HttpOnly, SameSite=Strict) and the way on.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.web.auth import COOKIE, SESSION, Gatekeeper, local_path
from services.web.pages import render

Target = Annotated[str, Query(alias="next", max_length=2000)]


def router(keeper: Gatekeeper) -> APIRouter:
    """The form and its target."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/login")
    async def form(target: Target = "/") -> Response:
        if not keeper.asks:
            return RedirectResponse("/", 303)
        return render("login.html", {"target": local_path(target), "wrong": False})

    @routes.post("/login")
    async def enter(
        request: Request,
        token: Annotated[str, Form(max_length=1000)] = "",
        target: Annotated[str, Form(alias="next", max_length=2000)] = "/",
    ) -> Response:
        if not keeper.knows(token.strip()):
            return render("login.html", {"target": local_path(target), "wrong": True}, status=401)
        response = RedirectResponse(local_path(target), 303)
        response.set_cookie(
            COOKIE,
            keeper.session(),
            max_age=int(SESSION.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    return routes
