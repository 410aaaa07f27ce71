"""API tokens: what programs come in with. Shown once; only the SHA-256 is stored.

In: a name, a role, tenants, an end. Out: the token once, and later whoever bears it. A token that belongs to somebody
never may more than they may at that moment, and nothing once their account is disabled.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.clients.database import Database, storable
from services.core.access import Grant, Person, Role

PREFIX = "pnt_"  # so that scanners of repositories know a leaked one
USED_EVERY = timedelta(minutes=1)  # how exactly `used_at` is kept: not a write for each request


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token without its secret. `tenants` None: all of them. `owner` None: it is a program's own."""

    id: int
    name: str
    role: Role
    tenants: frozenset[str] | None
    owner: str | None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None

    @property
    def grant(self) -> Grant:
        """What was allowed to it when it was made."""
        return Grant(self.role, self.tenants)


class Tokens:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, name: str, grant: Grant, *, owner: str | None, now: datetime, expires_at: datetime | None
    ) -> tuple[str, ApiToken]:
        """A new token: its secret, which is not kept, and what is known of it."""
        secret = PREFIX + secrets.token_urlsafe(32)
        row = {
            "digest": digest_of(secret),
            "name": storable(name),
            "role": grant.role.value,
            "tenants": None if grant.tenants is None else sorted(grant.tenants),
            "owner": owner,
            "now": now,
            "expires_at": expires_at,
        }
        async with self._database.connection() as connection:
            stored = await (await connection.execute(_CREATE, row)).fetchone()
        return secret, _token({} if stored is None else stored)

    async def bearer(self, secret: str, now: datetime) -> Person | None:
        """Who bears this token; None where it is none of ours, has ended, was revoked, or its owner is disabled."""
        query = {"digest": digest_of(secret), "now": now, "used_before": now - USED_EVERY}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BEARER, query)).fetchone()
            if row is not None and (row["used_at"] is None or row["used_at"] < query["used_before"]):
                await connection.execute(_USED, query)
        return None if row is None else _person(row)

    async def all(self, *, owner: str | None = None) -> list[ApiToken]:
        """Tokens, newest first, revoked ones too; only somebody's, where an owner is named."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_ALL, {"owner": owner})).fetchall()
        return [_token(row) for row in rows]

    async def get(self, token_id: int) -> ApiToken | None:
        """One token."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_GET, {"id": token_id})).fetchone()
        return None if row is None else _token(row)

    async def revoke(self, token_id: int, now: datetime) -> bool:
        """End a token at once. False where it was revoked before, or never was."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_REVOKE, {"id": token_id, "now": now})).fetchone()
        return row is not None


def digest_of(secret: str) -> str:
    """What is stored of a secret of 256 random bits: its SHA-256. Nothing slower is needed for something so long."""
    return hashlib.sha256(secret.encode()).hexdigest()


_CREATE = """
insert into api_token (digest, name, role, tenants, owner, created_at, expires_at)
values (%(digest)s, %(name)s, %(role)s, %(tenants)s, %(owner)s, %(now)s, %(expires_at)s) returning *
"""
_BEARER = """
select api_token.*, person.name as owner_name, person.role as owner_role, person.tenants as owner_tenants
from api_token left join person on person.subject = api_token.owner
where digest = %(digest)s and revoked_at is null and (expires_at is null or expires_at > %(now)s)
    and (owner is null or not person.disabled)
"""
_USED = """
update api_token set used_at = %(now)s
where digest = %(digest)s and (used_at is null or used_at < %(used_before)s)
"""
_ALL = "select * from api_token where %(owner)s::text is null or owner = %(owner)s order by id desc"
_GET = "select * from api_token where id = %(id)s"
_REVOKE = "update api_token set revoked_at = %(now)s where id = %(id)s and revoked_at is null returning 1"


def _person(row: dict[str, Any]) -> Person:
    token = _token(row)
    if token.owner is None:
        return Person(f"token/{token.id}", token.name, token.role, token.tenants)
    tenants = None if row["owner_tenants"] is None else frozenset(row["owner_tenants"])
    grant = token.grant.within(Grant(Role(row["owner_role"]), tenants))
    return Person(token.owner, row["owner_name"], grant.role, grant.tenants)


def _token(row: dict[str, Any]) -> ApiToken:
    values = {name: row[name] for name in ApiToken.__dataclass_fields__}
    tenants = None if row["tenants"] is None else frozenset(row["tenants"])
    return ApiToken(**{**values, "role": Role(row["role"]), "tenants": tenants})
