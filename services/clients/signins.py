"""On the way in: links that sign somebody in once, sign-ins that are at the provider just now, and addresses that fail.

In: whom a link is for, what a sign-in at the provider must bring back, an address that gave something wrong. Out: each
link and each sign-in once and for minutes; whether an address has to wait. In PostgreSQL, so that every web process
knows.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.clients.database import Database
from services.clients.tokens import digest_of

TICKET_LASTS = timedelta(minutes=10)
FLOW_LASTS = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a sign-in at the provider has to bring back (`state`, `nonce`), what proves that it is ours to end
    (`verifier`, PKCE), and where it leads."""

    state: str
    nonce: str
    verifier: str
    target: str

    @classmethod
    def new(cls, target: str) -> Flow:
        """With values that nobody guesses."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), target)


class SignIns:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def invite(self, subject: str, now: datetime) -> str:
        """A ticket for somebody's one-time link."""
        secret = secrets.token_urlsafe(32)
        row = {"digest": digest_of(secret), "subject": subject, "expires_at": now + TICKET_LASTS, "now": now}
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_FORGET_TICKETS, row)
            await connection.execute(_INVITE, row)
        return secret

    async def redeem(self, ticket: str, now: datetime) -> str | None:
        """Whom a ticket is for; it is good for nothing afterwards. None where it was used, is over, or never was."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_REDEEM, {"digest": digest_of(ticket), "now": now})).fetchone()
        return None if row is None else str(row["subject"])

    async def leave(self, flow: Flow, now: datetime) -> str:
        """Keep what a sign-in must bring back; the value of the cookie by which its browser is known again."""
        secret = secrets.token_urlsafe(32)
        values = {"state": flow.state, "nonce": flow.nonce, "verifier": flow.verifier, "target": flow.target}
        row = {**values, "digest": digest_of(secret), "now": now, "expires_at": now + FLOW_LASTS}
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_FORGET_FLOWS, row)
            await connection.execute(_LEAVE, row)
        return secret

    async def back(self, secret: str, now: datetime) -> Flow | None:
        """What the sign-in of this cookie must bring back, once."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BACK, {"digest": digest_of(secret), "now": now})).fetchone()
        return None if row is None else Flow(row["state"], row["nonce"], row["verifier"], row["target"])


class Attempts:
    """Addresses that gave something wrong: after `limit` times within `window` they have to wait."""

    def __init__(self, database: Database, limit: int, window: timedelta) -> None:
        self._database = database
        self._limit = limit
        self._window = window

    async def failed(self, address: str, now: datetime) -> bool:
        """Count one more. Whether it was still within the limit."""
        row = {"address": address, "now": now, "since": now - self._window}
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_FORGET_FAILURES, row)
            counted = await (await connection.execute(_FAILED, row)).fetchone()
        return counted is not None and counted["failures"] <= self._limit

    async def wait_s(self, address: str, now: datetime) -> float:
        """Seconds until this address may try again; 0 where it may now."""
        query = {"address": address, "since": now - self._window, "limit": self._limit}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BLOCKED, query)).fetchone()
        return 0.0 if row is None else max(0.0, (row["since"] + self._window - now).total_seconds())


_FORGET_TICKETS = "delete from sign_in_ticket where expires_at <= %(now)s"
_INVITE = """
insert into sign_in_ticket (digest, subject, expires_at) values (%(digest)s, %(subject)s, %(expires_at)s)
"""
_REDEEM = "delete from sign_in_ticket where digest = %(digest)s and expires_at > %(now)s returning subject"
_FORGET_FLOWS = "delete from sign_in_flow where expires_at <= %(now)s"
_LEAVE = """
insert into sign_in_flow (digest, state, nonce, verifier, target, expires_at)
values (%(digest)s, %(state)s, %(nonce)s, %(verifier)s, %(target)s, %(expires_at)s)
"""
_BACK = "delete from sign_in_flow where digest = %(digest)s and expires_at > %(now)s returning *"
_FORGET_FAILURES = "delete from sign_in_failure where since <= %(since)s"
_FAILED = """
insert into sign_in_failure (address, failures, since) values (%(address)s, 1, %(now)s)
on conflict (address) do update set failures = sign_in_failure.failures + 1
returning failures
"""
_BLOCKED = """
select since from sign_in_failure where address = %(address)s and since > %(since)s and failures >= %(limit)s
"""
