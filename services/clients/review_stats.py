"""Figures about reviews, for leads: what waits, what each moderator did, and how often they agree.

In: tenants, and since when. Out: counts and pairs of answers; agreement itself is core's (core/review/quality.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.database import Database
from services.clients.review_rows import viewer
from services.core.access import Person
from services.core.review.cases import Kind
from services.core.review.quality import Answer


@dataclass(frozen=True, slots=True)
class Waiting:
    """Open cases of a tenant and kind."""

    tenant: str
    kind: Kind
    open: int
    escalated: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Work:
    """What a moderator did. `median_s`: from when they had a case before them to their decision."""

    person: str
    name: str
    decided: int
    undone: int
    skipped: int
    escalated: int
    minutes: float
    median_s: float | None
    honeypots: int
    honeypots_right: int


@dataclass(frozen=True, slots=True)
class Twice:
    """A case that two people decided without seeing each other."""

    kind: Kind
    first: Answer
    second: Answer


class ReviewStats:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def waiting(self, person: Person, tenant: str | None) -> list[Waiting]:
        """What is open, by tenant and kind."""
        rows = await self._rows(_WAITING, person, tenant)
        return [Waiting(**row) for row in rows]

    async def work(self, person: Person, tenant: str | None, *, since: datetime) -> list[Work]:
        """What each moderator did since then, the busiest first."""
        rows = await self._rows(_WORK, person, tenant, since=since)
        return [Work(**row) for row in rows]

    async def decided_twice(self, person: Person, tenant: str | None, *, since: datetime) -> list[Twice]:
        """The cases that two people decided since then, the earliest first."""
        rows = await self._rows(_TWICE, person, tenant, since=since)
        return [
            Twice(row["kind"], Answer(row["first_by"], row["first"]), Answer(row["second_by"], row["second"]))
            for row in rows
        ]

    async def _rows(self, statement: str, person: Person, tenant: str | None, **more: Any) -> list[Mapping[str, Any]]:
        query = {**viewer(person), "tenant": tenant, **more}
        async with self._database.connection() as connection:
            return list(await (await connection.execute(statement, query)).fetchall())


_SEEN = "(%(tenant)s::text is null or {0} = %(tenant)s) and (%(tenants)s::text[] is null or {0} = any(%(tenants)s))"
_WAITING = f"""
select tenant, kind, count(*) as open, count(*) filter (where escalated) as escalated, min(opened_at) as oldest_at
from review_case where state = 'open' and honeypot is null and {_SEEN.format("tenant")}
group by tenant, kind order by tenant, kind
"""
_WORK = f"""
with claims as (
    select person, max(name) as name, count(*) filter (where outcome = 'skipped') as skipped,
        count(*) filter (where outcome = 'escalated') as escalated,
        sum(extract(epoch from greatest(coalesce(ended_at, seen_at) - claimed_at, '0'))) / 60 as minutes
    from review_claim where claimed_at >= %(since)s and {_SEEN.format("tenant")} group by person
), decisions as (
    select review_decision.person, count(*) filter (where undone_at is null) as decided, count(undone_at) as undone,
        percentile_cont(0.5) within group (order by seconds) filter (where undone_at is null) as median_s,
        count(answer) filter (where undone_at is null) as honeypots,
        count(*) filter (where undone_at is null and answer = review_decision.decision) as honeypots_right
    from review_decision join review_case on review_case.id = case_id
    left join review_honeypot on review_honeypot.id = review_case.honeypot
    where decided_at >= %(since)s and {_SEEN.format("review_decision.tenant")} group by review_decision.person
)
select person, name, coalesce(decided, 0) as decided, coalesce(undone, 0) as undone, skipped, escalated,
    minutes::double precision as minutes, median_s, coalesce(honeypots, 0) as honeypots,
    coalesce(honeypots_right, 0) as honeypots_right
from claims left join decisions using (person)
order by decided desc, person
"""
# Of a case that was decided several times in parts, each second decision answers the first one before it.
_TWICE = f"""
select review_case.kind, first.name as first_by, first.decision as first, second.name as second_by,
    second.decision as second
from review_decision as second join review_case on review_case.id = second.case_id
cross join lateral (
    select name, decision from review_decision
    where case_id = second.case_id and part = 'first' and undone_at is null and decided_at <= second.decided_at
    order by decided_at desc limit 1
) as first
where second.part = 'second' and second.undone_at is null and second.decided_at >= %(since)s
    and {_SEEN.format("second.tenant")}
order by second.decided_at
"""
