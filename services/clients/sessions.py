"""Sessions of browsers: an opaque random cookie there, a row here. Ending one is deleting the row.

In: who signed in and how; later a cookie. Out: the session, while it lives: neither too old, nor unused for too long,
nor of somebody who is disabled. Role and tenants are the account's of that moment, not of the sign-in.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from services.clients.accounts import Account, account_of
from services.clients.database import Database, storable
from services.clients.tokens import digest_of

Method = Literal["oidc", "link", "token"]
SEEN_EVERY = timedelta(minutes=1)  # how exactly `seen_at` is kept: not a write for each request
AGENT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Begun:
    """How a session began. `token_mark` says with which web token, so that it ends when that is changed."""

    subject: str
    method: Method
    agent: str
    now: datetime
    expires_at: datetime
    token_mark: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in. `account` None: with the web token, which has none."""

    id: int
    subject: str
    method: Method
    agent: str
    token_mark: str | None
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    account: Account | None = None


class Sessions:
    """`idle`: how long one may be unused. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, idle: timedelta) -> None:
        self._database = database
        self._idle = idle

    async def begin(self, begun: Begun) -> str:
        """A new session; the cookie's value, which is not kept."""
        secret = secrets.token_urlsafe(32)
        row = {
            "digest": digest_of(secret),
            "subject": begun.subject,
            "method": begun.method,
            "token_mark": begun.token_mark,
            "agent": storable(begun.agent)[:AGENT_LENGTH],
            "now": begun.now,
            "expires_at": begun.expires_at,
            "seen_after": begun.now - self._idle,
        }
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_FORGET, row)
            await connection.execute(_BEGIN, row)
            await connection.execute(_CAME, row)
        return secret

    async def get(self, secret: str, now: datetime) -> Session | None:
        """The session of a cookie; None where it has ended or never was."""
        query = {"digest": digest_of(secret), "now": now, "seen_after": now - self._idle}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_GET, query)).fetchone()
            if row is not None and row["last_seen"] < now - SEEN_EVERY:
                await connection.execute(_SEEN, query)
        return None if row is None else _session(row)

    async def of(self, subject: str, now: datetime) -> list[Session]:
        """Somebody's sessions that live, newest first."""
        query = {"subject": subject, "now": now, "seen_after": now - self._idle}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_OF, query)).fetchall()
        return [_session(row) for row in rows]

    async def end(self, subject: str, session_id: int | None = None) -> int:
        """End one session of somebody, or all of them. How many there were."""
        query = {"subject": subject, "id": session_id}
        async with self._database.connection() as connection:
            return (await connection.execute(_END, query)).rowcount


_FORGET = "delete from web_session where expires_at <= %(now)s or seen_at <= %(seen_after)s"
_BEGIN = """
insert into web_session (digest, subject, method, token_mark, agent, created_at, seen_at, expires_at)
values (%(digest)s, %(subject)s, %(method)s, %(token_mark)s, %(agent)s, %(now)s, %(now)s, %(expires_at)s)
"""
_CAME = "update person set seen_at = %(now)s where subject = %(subject)s"
_SESSION = """
select web_session.id, web_session.subject, method, agent, token_mark, web_session.created_at as begun_at,
       web_session.seen_at as last_seen, expires_at, person.subject as known, name, email, role, tenants, origin,
       disabled, person.created_at, person.seen_at
from web_session left join person on person.subject = web_session.subject
"""
_ALIVE = "expires_at > %(now)s and web_session.seen_at > %(seen_after)s"
_GET = f"""
{_SESSION} where digest = %(digest)s and {_ALIVE}
    and (method = 'token' or (person.subject is not null and not disabled))
"""
_OF = f"{_SESSION} where web_session.subject = %(subject)s and {_ALIVE} order by web_session.id desc"
_SEEN = "update web_session set seen_at = %(now)s where digest = %(digest)s and seen_at < %(now)s"
_END = "delete from web_session where subject = %(subject)s and (%(id)s::bigint is null or id = %(id)s)"


def _session(row: dict[str, Any]) -> Session:
    return Session(
        id=row["id"],
        subject=row["subject"],
        method=row["method"],
        agent=row["agent"],
        token_mark=row["token_mark"],
        created_at=row["begun_at"],
        seen_at=row["last_seen"],
        expires_at=row["expires_at"],
        account=None if row["known"] is None else account_of(row),
    )
