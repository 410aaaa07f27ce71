"""People who may come in: who they are, what they may, and whether they still may.

In: what an administrator or a sign-in says of somebody. Out: accounts. Nobody is ever deleted, since the audit log
names them; a disabled account lets nobody in, and ends its sessions and tokens with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from services.clients.database import Database, storable
from services.core.access import Grant, Person, Role

Origin = Literal["local", "oidc"]


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody. `tenants` None: all of them. `origin` oidc: the provider's claims say role and tenants."""

    subject: str
    name: str
    email: str | None
    role: Role
    tenants: frozenset[str] | None
    origin: Origin = "local"
    disabled: bool = False
    created_at: datetime | None = None
    seen_at: datetime | None = None

    @property
    def person(self) -> Person:
        """Who makes a request with this account."""
        return Person(self.subject, self.name, self.role, self.tenants)

    @property
    def grant(self) -> Grant:
        """What they may."""
        return Grant(self.role, self.tenants)


class People:
    """Accounts. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, subject: str) -> Account | None:
        """One account, disabled or not."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_GET, {"subject": subject})).fetchone()
        return None if row is None else account_of(row)

    async def all(self, *, limit: int = 200, after: str = "") -> list[Account]:
        """Accounts by subject, from after `after` on."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_ALL, {"limit": limit, "after": after})).fetchall()
        return [account_of(row) for row in rows]

    async def add(self, account: Account) -> bool:
        """Store a new account. False where the subject is taken, and nothing is changed."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ADD, _row(account))).fetchone()
        return row is not None

    async def change(self, account: Account) -> bool:
        """Set name, email, role, tenants and whether it is disabled. False where there is no such account."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_CHANGE, _row(account))).fetchone()
        return row is not None

    async def come(self, account: Account) -> Account:
        """Store what a sign-in says of somebody; a disabled account stays disabled. Returns what is stored now."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_COME, _row(account))).fetchone()
        return account if row is None else account_of(row)


_GET = "select * from person where subject = %(subject)s"
_ALL = "select * from person where subject > %(after)s order by subject limit %(limit)s"
_ADD = """
insert into person (subject, name, email, role, tenants, origin, disabled)
values (%(subject)s, %(name)s, %(email)s, %(role)s, %(tenants)s, %(origin)s, %(disabled)s)
on conflict do nothing returning 1
"""
_CHANGE = """
update person set name = %(name)s, email = %(email)s, role = %(role)s, tenants = %(tenants)s, disabled = %(disabled)s
where subject = %(subject)s returning 1
"""
_COME = """
insert into person (subject, name, email, role, tenants, origin, seen_at)
values (%(subject)s, %(name)s, %(email)s, %(role)s, %(tenants)s, %(origin)s, %(seen_at)s)
on conflict (subject) do update set name = excluded.name, email = excluded.email, role = excluded.role,
    tenants = excluded.tenants, origin = excluded.origin, seen_at = excluded.seen_at
returning *
"""


def account_of(row: dict[str, Any]) -> Account:
    """The account of a row of `person`, or of a join that has all of its columns."""
    values = {name: row[name] for name in Account.__dataclass_fields__}
    tenants = None if row["tenants"] is None else frozenset(row["tenants"])
    return Account(**{**values, "role": Role(row["role"]), "tenants": tenants})


def _row(account: Account) -> dict[str, Any]:
    return {
        "subject": account.subject,
        "name": storable(account.name),
        "email": None if account.email is None else storable(account.email),
        "role": account.role.value,
        "tenants": None if account.tenants is None else sorted(account.tenants),
        "origin": account.origin,
        "disabled": account.disabled,
        "seen_at": account.seen_at,
    }
