"""Who may do what: roles in order, and a person with the tenants that they may see.

In: a role and a set of tenants. Out: yes or no. Nothing here knows how somebody proved who they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do; each role may do what those before it may."""

    VIEWER = "viewer"  # reads verdicts and pictures
    MODERATOR = "moderator"  # decides cases
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


LOCAL = Person("local", "this machine", Role.ADMIN)
"""Whoever reaches the loopback address where no token and no login is set."""
