"""What routes ask about whoever makes the request.

In: a request that the gate let in. Out: the person, or a refusal. A tenant that somebody may not see is answered as if
it did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from services.core.access import Person, Role
from services.web.problems import Refused

DEFAULT_TENANT = "default"


def person_of(request: Request) -> Person:
    """Who makes this request. The gate sets it on everything that it lets in."""
    person: Person = request.state.person
    return person


Who = Annotated[Person, Depends(person_of)]
"""A route's parameter: `async def route(person: Who)`."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The dependency that `at_least` makes. It shows its role to the test that walks every route."""

    role: Role

    def __call__(self, request: Request) -> Person:
        person = person_of(request)
        if not person.may(self.role):
            text = f"This needs the role {self.role.value}; {person.name} is {person.role.value}."
            raise Refused(403, "role_required", text)
        return person


def at_least(role: Role) -> AtLeast:
    """A dependency that answers 403 to whoever has less than this role: `Depends(at_least(Role.LEAD))`."""
    return AtLeast(role)


def tenants_of(person: Person, tenant: str | None) -> tuple[str, ...] | None:
    """The tenants to look into: the one that is asked for, else all that the person may see; None: every one there is.

    Raises Refused (404) where they ask for one that they may not see.
    """
    if tenant is not None:
        return (seen(person, tenant),)
    return None if person.tenants is None else tuple(sorted(person.tenants))


def own_tenant(person: Person) -> str:
    """Whose something is where nobody says: the only tenant that they have, else `default`."""
    return next(iter(person.tenants)) if person.tenants is not None and len(person.tenants) == 1 else DEFAULT_TENANT


def address_of(request: Request) -> str:
    """The peer's address; a proxy's `X-Forwarded-For` is believed where the server is told to (uvicorn's default: a
    proxy on this machine)."""
    return request.client.host if request.client is not None else "unknown"


def seen(person: Person, tenant: str) -> str:
    """The tenant, where the person may see it. Raises Refused (404)."""
    if "\x00" in tenant or not person.sees(tenant):  # no name has a NUL, and no query can
        raise Refused(404, "not_found", f"There is no tenant {tenant!r} that you may see.")
    return tenant
