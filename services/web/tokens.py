"""API tokens, for administrators: a page, and its JSON twin. One's own are on `/account`.

In: a name, a role, tenants, days. Out: the token, once; the list without secrets.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response

from services.clients.tokens import ApiToken
from services.core.access import EVERYTHING, Grant, Person, Role, tenants_of_words
from services.web.access import Who, at_least
from services.web.pages import render
from services.web.paging import LARGEST_ID
from services.web.registrar import Registrar

PAGE = "/admin/tokens"
ADMINS = [Depends(at_least(Role.ADMIN))]
MOST_DAYS = 3650

Name = Annotated[str, Field(min_length=1, max_length=100)]
Days = Annotated[int | None, Field(ge=1, le=MOST_DAYS, description="Until it ends by itself; null: never.")]


class TokenShown(BaseModel):
    """A token without its secret."""

    id: int
    name: str
    role: Role
    tenants: list[str]
    owner: str | None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


class Tokens(BaseModel):
    """Tokens, newest first."""

    tokens: list[TokenShown]


class NewToken(BaseModel):
    """A token to make."""

    name: Name
    role: Role
    tenants: Annotated[list[str], Field(max_length=1000, description="`*` among them: all.")]
    days: Days = 365


class IssuedToken(TokenShown):
    """A token that was just made. `secret` is shown this once."""

    secret: str


def pages(registrar: Registrar) -> APIRouter:
    """The page and the targets of its forms."""
    routes = APIRouter(prefix=PAGE, include_in_schema=False, dependencies=ADMINS)

    async def page(person: Person, *, secret: str | None = None, of: str = "") -> Response:
        values = {"tokens": await registrar.tokens(person), "secret": secret, "of": of, "Role": Role}
        return render("admin_tokens.html", values)

    @routes.get("")
    async def listed(person: Who) -> Response:
        return await page(person)

    @routes.post("")
    async def create(
        person: Who,
        name: Annotated[str, Form(max_length=100)] = "",
        role: Annotated[Role, Form()] = Role.VIEWER,
        tenants: Annotated[str, Form(max_length=5000)] = "",
        days: Annotated[int, Form(ge=1, le=MOST_DAYS)] = 365,
    ) -> Response:
        grant = Grant(role, tenants_of_words(tenants.split(",")))
        secret, token = await registrar.issue(person, name, grant, days=days)
        return await page(person, secret=secret, of=token.name)

    @routes.post("/revoke")
    async def revoke(person: Who, token_id: Annotated[int, Form(alias="id", ge=1, le=LARGEST_ID)]) -> Response:
        await registrar.revoke(person, token_id)
        return RedirectResponse(PAGE, 303)

    return routes


def api(registrar: Registrar) -> APIRouter:
    """Its JSON twin."""
    routes = APIRouter(prefix="/api/v1/tokens", dependencies=ADMINS)

    @routes.get("")
    async def listed(person: Who) -> Tokens:
        return Tokens(tokens=[shown(each) for each in await registrar.tokens(person)])

    @routes.post("", status_code=201)
    async def create(person: Who, new: NewToken) -> IssuedToken:
        grant = Grant(new.role, tenants_of_words(new.tenants))
        secret, token = await registrar.issue(person, new.name, grant, days=new.days)
        return IssuedToken(**shown(token).model_dump(), secret=secret)

    @routes.delete("/{token_id}", status_code=204)
    async def revoke(person: Who, token_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> None:
        await registrar.revoke(person, token_id)

    return routes


def shown(token: ApiToken) -> TokenShown:
    """A token as the API says it."""
    values: dict[str, Any] = {name: getattr(token, name) for name in TokenShown.model_fields}
    values["tenants"] = [EVERYTHING] if token.tenants is None else sorted(token.tenants)
    return TokenShown(**values)
