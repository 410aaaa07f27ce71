"""People, for administrators: a page, and its JSON twin.

In: whom to add, whom to change, whom to make a one-time link for. Out: the list, or what it was. What is allowed is
decided in `registrar.py`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.clients.accounts import Account
from services.core.access import EVERYTHING, Grant, Person, Role, tenants_of_words
from services.web.access import Who, at_least
from services.web.pages import render
from services.web.paging import MOST, Limit, Page, Place, cut, following, read_place, write_place
from services.web.registrar import Registrar

PAGE = "/admin/people"
ADMINS = [Depends(at_least(Role.ADMIN))]

Name = Annotated[str, Field(min_length=1, max_length=100)]
Tenants = Annotated[list[str], Field(max_length=1000, description="`*` among them: all.")]


class PersonShown(BaseModel):
    """Somebody who may come in."""

    subject: str
    name: str
    email: str | None
    role: Role
    tenants: list[str]
    origin: str
    disabled: bool
    created_at: datetime | None
    seen_at: datetime | None


class People(Page):
    """A page of people, by subject."""

    people: list[PersonShown]


class NewPerson(BaseModel):
    """Somebody to add. They come in by one-time links."""

    subject: Name
    name: Name | None = None
    email: Annotated[str | None, Field(max_length=200)] = None
    role: Role
    tenants: Tenants


class ChangedPerson(BaseModel):
    """What to change; what is absent stays."""

    role: Role | None = None
    tenants: Tenants | None = None
    disabled: bool | None = None


def pages(registrar: Registrar) -> APIRouter:
    """The page and the targets of its forms."""
    routes = APIRouter(prefix=PAGE, include_in_schema=False, dependencies=ADMINS)

    async def page(person: Person, *, cursor: str | None = None, link: str | None = None, of: str = "") -> Response:
        people, place = await _page(registrar, person, MOST, cursor)
        following = None if place is None else f"{PAGE}?{urlencode({'cursor': place})}"
        values = {"people": people, "following": following, "link": link, "of": of, "Role": Role}
        return render("admin_people.html", values)

    @routes.get("")
    async def listed(person: Who, cursor: Place = None) -> Response:
        return await page(person, cursor=cursor)

    @routes.post("")
    async def add(
        person: Who,
        subject: Annotated[str, Form(max_length=100)] = "",
        name: Annotated[str, Form(max_length=100)] = "",
        role: Annotated[Role, Form()] = Role.VIEWER,
        tenants: Annotated[str, Form(max_length=5000)] = "",
    ) -> Response:
        await registrar.add(person, Account(subject, name or subject, None, role, tenants_of_words(tenants.split(","))))
        return RedirectResponse(PAGE, 303)

    @routes.post("/change")
    async def change(
        person: Who,
        subject: Annotated[str, Form(max_length=200)],
        role: Annotated[Role, Form()],
        tenants: Annotated[str, Form(max_length=5000)] = "",
        disabled: Annotated[bool, Form()] = False,
    ) -> Response:
        grant = Grant(role, tenants_of_words(tenants.split(",")))
        await registrar.change(person, subject, grant=grant, disabled=disabled)
        return RedirectResponse(PAGE, 303)

    @routes.post("/link")
    async def link(request: Request, person: Who, subject: Annotated[str, Form(max_length=200)]) -> Response:
        link = await registrar.link(person, subject, base=str(request.base_url))
        return await page(person, link=link, of=subject)

    @routes.post("/sign-out")
    async def sign_out(person: Who, subject: Annotated[str, Form(max_length=200)]) -> Response:
        await registrar.sign_out(person, subject)
        return RedirectResponse(PAGE, 303)

    return routes


def api(registrar: Registrar) -> APIRouter:
    """Its JSON twin."""
    routes = APIRouter(prefix="/api/v1/people", dependencies=ADMINS)

    @routes.get("", response_model_exclude_none=True)
    async def listed(request: Request, person: Who, limit: Limit = 50, cursor: Place = None) -> People:
        found, place = await _page(registrar, person, limit, cursor)
        return People(people=[_shown(each) for each in found], next_cursor=place, next=following(request, place))

    @routes.post("", status_code=201)
    async def add(person: Who, new: NewPerson) -> PersonShown:
        account = Account(new.subject, new.name or new.subject, new.email, new.role, tenants_of_words(new.tenants))
        return _shown(await registrar.add(person, account))

    @routes.patch("/{subject:path}")
    async def change(person: Who, subject: str, wanted: ChangedPerson) -> PersonShown:
        known = await registrar.find(person, subject)
        tenants = known.tenants if wanted.tenants is None else tenants_of_words(wanted.tenants)
        grant = Grant(wanted.role or known.role, tenants)
        return _shown(await registrar.change(person, subject, grant=grant, disabled=wanted.disabled))

    @routes.delete("/{subject:path}/sessions")
    async def sign_out(person: Who, subject: str) -> dict[str, int]:
        return {"ended": await registrar.sign_out(person, subject)}

    return routes


async def _page(
    registrar: Registrar, person: Person, limit: int, cursor: str | None
) -> tuple[list[Account], str | None]:
    after = "" if cursor is None else read_place(cursor, str)
    found = await registrar.shown(person, after=after, limit=limit + 1)
    return cut(found, limit, lambda last: write_place(last.subject))


def _shown(account: Account) -> PersonShown:
    values: dict[str, Any] = {name: getattr(account, name) for name in PersonShown.model_fields}
    values["tenants"] = [EVERYTHING] if account.tenants is None else sorted(account.tenants)
    return PersonShown(**values)
