"""Originals that are registered and wait to be prepared: to get their visual words and local features.

In: nothing; `Candidates.register` writes the rows, in the statement that registers. Out: one original at a time, leased
to whoever prepares it, and what an upload that is sought meanwhile has to be told. A row goes with its original.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.candidates import Picture, picture_of
from services.clients.database import Database


@dataclass(frozen=True, slots=True)
class Preparation:
    """An original to be prepared. `attempts` counts claims, this one included."""

    number: int
    picture: Picture
    attempts: int
    since: datetime


class PreparationQueue:
    """What whoever prepares works from. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, lease_s: float) -> Preparation | None:
        """The next original, to be settled within `lease_s` or else given out again; None where none is due."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_CLAIM, {"lease_s": lease_s})).fetchone()
        return None if row is None else _preparation(row)

    async def postpone(self, job: Preparation, *, for_s: float) -> None:
        """Give a claimed original out again, but not before so many seconds."""
        async with self._database.connection() as connection:
            await connection.execute(_POSTPONE, {"number": job.number, "for_s": for_s})

    async def settle(self, job: Preparation) -> bool:
        """The original waits no longer. False where it was settled before, or is no longer registered."""
        async with self._database.connection() as connection:
            return (await connection.execute(_SETTLE, {"number": job.number})).rowcount > 0

    async def waiting(self) -> tuple[int, datetime | None]:
        """How many originals wait, of all tenants, and since when the oldest does."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        return (row["originals"], row["oldest"]) if row else (0, None)


class Unprepared:
    """What others ask and tell about originals that wait. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def any(self, tenant: str) -> bool:
        """Whether an original of the tenant waits: the first answer of an index."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ANY, {"tenant": tenant})).fetchone()
        return row is not None

    async def among(self, tenant: str, contents: Sequence[str]) -> set[str]:
        """Those of the contents, by SHA-256, whose original of the tenant waits."""
        query = {"tenant": tenant, "contents": list(contents)}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_AMONG, query)).fetchall()
        return {str(row["sha256"]) for row in rows}

    async def hold(self, pictures: Iterable[Picture], *, for_s: float) -> None:
        """Keep originals that somebody prepares without the queue from being claimed for so long."""
        async with self._database.connection() as connection:
            await connection.execute(_HOLD, {**_columns(pictures), "for_s": for_s})

    async def remove(self, pictures: Iterable[Picture]) -> None:
        """Somebody prepared these originals."""
        async with self._database.connection() as connection:
            await connection.execute(_REMOVE, _columns(pictures))


_CLAIM = """
with claimed as (
    update unprepared set attempts = attempts + 1, due_at = now() + make_interval(secs => %(lease_s)s)
    where seq = (select seq from unprepared where due_at <= now() order by due_at, seq limit 1 for update skip locked)
    returning seq, attempts, since
)
select candidate.tenant, candidate.original_id, candidate.trusted, candidate.source, candidate.registered_at, content.*,
       claimed.seq, claimed.attempts, claimed.since
from claimed join candidate using (seq) join content using (sha256)
"""
_POSTPONE = "update unprepared set due_at = now() + make_interval(secs => %(for_s)s) where seq = %(number)s"
_SETTLE = "delete from unprepared where seq = %(number)s"
_WAITING = "select count(*) as originals, min(since) as oldest from unprepared"
_ANY = "select 1 from unprepared where tenant = %(tenant)s limit 1"
_AMONG = """
select candidate.sha256 from unnest(%(contents)s::text[]) as asked (sha256)
join candidate on candidate.tenant = %(tenant)s and candidate.sha256 = asked.sha256 and candidate.trusted
join unprepared using (seq)
"""
_MEANT = """
from unnest(%(tenants)s::text[], %(contents)s::text[]) as meant (tenant, sha256)
join candidate on candidate.tenant = meant.tenant and candidate.sha256 = meant.sha256 and candidate.trusted
"""
_HOLD = f"""
update unprepared set due_at = greatest(due_at, now() + make_interval(secs => %(for_s)s))
where seq in (select candidate.seq {_MEANT})
"""
_REMOVE = f"delete from unprepared where seq in (select candidate.seq {_MEANT})"


def _columns(pictures: Iterable[Picture]) -> dict[str, Any]:
    chosen = list(pictures)
    return {"tenants": [each.tenant for each in chosen], "contents": [each.image.sha256 for each in chosen]}


def _preparation(row: Mapping[str, Any]) -> Preparation:
    return Preparation(row["seq"], picture_of(row), row["attempts"], row["since"])
