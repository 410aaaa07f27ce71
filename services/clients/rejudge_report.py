"""What became of a run of re-judging: counts, changes of decision and score, and which verdicts flipped.

In: the rows of `rejudge.py`. Out: the same, counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.database import Database


@dataclass(frozen=True, slots=True)
class Run:
    """A request, as it was asked."""

    id: int
    chosen: dict[str, Any]
    models: tuple[str, ...]
    rate: float | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """Uploads of a run of one kind. `decision` and `path` are those before, `became` the decision after, None where it
    was not judged again; `change` is the sum of the changes of `scored` scores.
    """

    tenant: str
    path: str
    decision: str
    became: str | None
    state: str
    reason: str | None
    uploads: int
    scored: int
    change: float


@dataclass(frozen=True, slots=True)
class Flip:
    """An upload whose decision is another one now."""

    tenant: str
    upload_id: str
    path: str
    decision: str
    score: float | None
    became: str
    new_path: str
    new_score: float | None


class RejudgeReport:
    """Runs and their outcomes. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, run: int | None) -> Run | None:
        """A run by its id, or the newest one; None where there is none."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_RUN, {"run": run})).fetchone()
        return None if row is None else Run(**row | {"models": tuple(row["models"])})

    async def tallies(self, run: int) -> list[Tally]:
        """All uploads of a run, counted by kind, most first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_TALLIES, {"run": run})).fetchall()
        return [Tally(**row) for row in rows]

    async def flips(self, run: int, *, limit: int) -> list[Flip]:
        """Uploads whose decision changed, the largest change of score first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_FLIPS, {"run": run, "limit": limit})).fetchall()
        return [Flip(**row) for row in rows]


_RUN = """
select id, chosen, models, rate, created_at from rejudge_run
where %(run)s::bigint is null or id = %(run)s order by id desc limit 1
"""
_TALLIES = """
select tenant, path, decision, new_decision as became, state, reason, count(*) as uploads,
    count(new_score - score) as scored, coalesce(sum(new_score - score), 0) as change
from rejudge where run = %(run)s group by tenant, path, decision, new_decision, state, reason
order by uploads desc, tenant, path, decision, became, state, reason
"""
_FLIPS = """
select tenant, upload_id, path, decision, score, new_decision as became, new_path, new_score
from rejudge where run = %(run)s and new_decision <> decision
order by abs(new_score - score) desc nulls last, tenant, upload_id limit %(limit)s
"""
