"""Who the page that is just rendered is for: the head of every page names them, and its forms carry their token.

In: what the gate found out about a request. Out: the same, for the templates of that request. A context variable,
since a template is rendered by routes that know nothing of sessions; each request has its own value.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from markupsafe import Markup

from services.clients.sessions import Session
from services.core.access import Person

FIELD = "csrf"
HEADER = "x-csrf-token"


@dataclass(frozen=True, slots=True)
class Came:
    """Who makes a request. `session` and its `csrf` token only where a cookie said so."""

    person: Person
    session: Session | None = None
    csrf: str = ""


CAME: ContextVar[Came | None] = ContextVar("came", default=None)


def csrf_token() -> str:
    """The token that unsafe requests of this page carry; empty where no cookie speaks for them."""
    came = CAME.get()
    return "" if came is None else came.csrf


def csrf_field() -> Markup:
    """The same as a hidden field, for a form that has to work without scripts. Put it first in the form."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, csrf_token())


def visitor() -> Came | None:
    """Who the page is for; None on pages that are shown to anybody."""
    return CAME.get()
