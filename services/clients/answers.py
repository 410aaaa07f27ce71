"""Answers to requests that carry an idempotency key: the first request does the work, the others get its answer.

In: who asks, which route, the key, and a fingerprint of what is asked. Out: go ahead, or the answer that was kept, or
why neither. A request that died in its work blocks its key until its lease is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from psycopg.types.json import Jsonb

from services.clients.database import Database


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What makes two requests one: the same person, route and key."""

    person: str
    route: str
    key: str


@dataclass(frozen=True, slots=True)
class GoAhead:
    """Nobody has done this yet. `token` is for keeping the answer, or for giving the key back."""

    key: AnswerKey
    token: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that the first request got."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class InWork:
    """The first request is not done."""


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """The key was used for something else."""


class KeptAnswers:
    """The answers. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, key: AnswerKey, fingerprint: str, *, keep_s: float, lease_s: float
    ) -> GoAhead | KeptAnswer | InWork | OtherRequest:
        """What a request may do. Answers older than `keep_s` are forgotten."""
        token = uuid4().hex
        row = {**_row(key), "fingerprint": fingerprint, "token": token, "keep_s": keep_s, "lease_s": lease_s}
        async with self._database.connection() as connection:
            await connection.execute(_FORGET, row)
            if await (await connection.execute(_BEGIN, row)).fetchone() is not None:
                return GoAhead(key, token)
            found = await (await connection.execute(_FIND, row)).fetchone()
        if found is not None and found["fingerprint"] != fingerprint:
            return OtherRequest()
        if found is None or found["status"] is None:  # None: it failed just now, and may be asked again in a moment
            return InWork()
        return KeptAnswer(found["status"], found["headers"], found["body"])

    async def keep(self, mine: GoAhead, answer: KeptAnswer) -> None:
        """The work is done, with this answer."""
        row = {**_row(mine.key), "token": mine.token, "status": answer.status, "body": answer.body}
        async with self._database.connection() as connection:
            await connection.execute(_KEEP, row | {"headers": Jsonb(dict(answer.headers))})

    async def give_back(self, mine: GoAhead) -> None:
        """The work was not done: the key may be used again."""
        async with self._database.connection() as connection:
            await connection.execute(_GIVE_BACK, {**_row(mine.key), "token": mine.token})


_KEY = "person = %(person)s and route = %(route)s and key = %(key)s"
_FORGET = "delete from kept_answer where started_at < now() - make_interval(secs => %(keep_s)s)"
_BEGIN = """
insert into kept_answer (person, route, key, fingerprint, token)
values (%(person)s, %(route)s, %(key)s, %(fingerprint)s, %(token)s)
on conflict (person, route, key) do update
    set fingerprint = excluded.fingerprint, token = excluded.token, started_at = now()
    where kept_answer.status is null and kept_answer.started_at < now() - make_interval(secs => %(lease_s)s)
returning 1
"""
_FIND = f"select fingerprint, status, headers, body from kept_answer where {_KEY}"
_KEEP = f"""
update kept_answer set status = %(status)s, headers = %(headers)s, body = %(body)s where {_KEY} and token = %(token)s
"""
_GIVE_BACK = f"delete from kept_answer where {_KEY} and token = %(token)s and status is null"


def _row(key: AnswerKey) -> dict[str, str]:
    return {"person": key.person, "route": key.route, "key": key.key}
