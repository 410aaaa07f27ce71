"""Who may do what: roles in order, and a person with the tenants that they may see.

In: a role and a set of tenants, or the claims of an OpenID provider. Out: yes or no, or what the claims give. Nothing
here knows how somebody proved who they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What somebody may do; each role may do what those before it may."""

    VIEWER = "viewer"  # reads verdicts and pictures
    MODERATOR = "moderator"  # decides cases, uploads
    LEAD = "lead"  # decides escalated and second reviews, in bulk; sees figures about people; exports
    ADMIN = "admin"  # people, tokens, webhooks, dead letters, settings

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever makes a request: a person or a program with a token.

    `subject` is the stable name that decisions and the audit log keep, 1-200 characters. `tenants` None: all of them.
    """

    subject: str
    name: str
    role: Role
    tenants: frozenset[str] | None = None

    def may(self, needed: Role) -> bool:
        """Whether they have at least this role."""
        return self.role.covers(needed)

    def sees(self, tenant: str) -> bool:
        """Whether what belongs to this tenant may be shown to them."""
        return self.tenants is None or tenant in self.tenants

    def may_grant(self, role: Role, tenants: frozenset[str] | None) -> bool:
        """Whether they may let somebody else do this: nobody gives more than they have."""
        within = self.tenants is None or (tenants is not None and tenants <= self.tenants)
        return self.may(role) and within


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody gets: a role, and tenants (None: all of them)."""

    role: Role
    tenants: frozenset[str] | None

    def within(self, other: Grant) -> Grant:
        """What both allow. A token is held to what its owner may by now."""
        role = self.role if other.role.covers(self.role) else other.role
        if self.tenants is None or other.tenants is None:
            return Grant(role, other.tenants if self.tenants is None else self.tenants)
        return Grant(role, self.tenants & other.tenants)


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Which claim of an OpenID provider gives what: `roles` and `tenants` by its values. `EVERYBODY` as a value stands
    for whoever signs in, `EVERYTHING` among tenants for all of them."""

    claim: str
    roles: Mapping[str, Role]
    tenants: Mapping[str, tuple[str, ...]]


EVERYBODY = EVERYTHING = "*"


def granted(claims: Mapping[str, Any], rules: ClaimRules) -> Grant | None:
    """What these claims give: the highest role, the tenants together. None where no value gives a role."""
    values = _values(claims, rules.claim)
    roles = [role for value, role in rules.roles.items() if value == EVERYBODY or value in values]
    if not roles:
        return None
    lists = [names for value, names in rules.tenants.items() if value == EVERYBODY or value in values]
    tenants = frozenset(name for names in lists for name in names)
    order = list(Role)
    return Grant(max(roles, key=order.index), None if EVERYTHING in tenants else tenants)


def subject_of(issuer: str, sub: str) -> str:
    """The stable name of a person of an OpenID provider: `sub` is unique within its issuer only."""
    host = issuer.partition("://")[2].rstrip("/")
    subject = f"{host}/{sub}"
    if len(subject) <= LONGEST_SUBJECT and subject.isprintable():
        return subject
    return f"oidc/{hashlib.sha256(subject.encode()).hexdigest()}"


def _values(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    if claim == "email" and claims.get("email_verified") is not True:
        return frozenset()  # whoever may type any address must not get the role of another's
    found = claims.get(claim)
    return frozenset([found] if isinstance(found, str) else map(str, found) if isinstance(found, list) else [])


LONGEST_SUBJECT = 200
LOCAL = Person("local", "this machine", Role.ADMIN)
"""Whoever reaches the loopback address where no token and no login is set."""
HOLDER = Person("web-token", "the web token", Role.ADMIN)
"""Whoever has the token of the settings."""
NOBODY = Person("nobody", "somebody unknown", Role.VIEWER, frozenset())
"""Whoever could not say who they are: for the audit log, never for a request that is let in."""


def tenants_of_words(words: Iterable[str]) -> frozenset[str] | None:
    """Tenants as people write them: names, or `EVERYTHING` among them for all."""
    named = frozenset(word.strip() for word in words if word.strip())
    return None if EVERYTHING in named else named


def is_tenant(text: str) -> bool:
    """Whether a tenant can have this name (the pattern of the events)."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text) is not None


def is_subject(text: str) -> bool:
    """Whether somebody may be added by this name: a word, without the slash that those of providers and tokens have."""
    taken = (LOCAL.subject, HOLDER.subject, NOBODY.subject)
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}", text) is not None and text not in taken
