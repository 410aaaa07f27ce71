"""How many verdicts were reached when, and how far an upload has come.

In: a span of time and what to tell apart; or an upload. Out: counts by hour or day, over an index that holds nothing
else; or the stage that an upload is at, as its rows tell it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from services.clients.database import Database

By = Literal["decision", "path", "tenant"]
Progress = Literal["unknown", "taken_in", "judged", "shown"]
"""`taken_in`: looked up and on its way to the models. `judged`: its verdict is final. `shown`: and can be looked at."""


@dataclass(frozen=True, slots=True)
class Count:
    """Verdicts of a kind within the hour or day that begins at `start` (UTC)."""

    start: datetime
    kind: str
    verdicts: int


class Activity:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def over_time(
        self, *, by: By, starts: Sequence[datetime], each: timedelta, tenants: Collection[str] | None = None
    ) -> list[Count]:
        """Verdicts in their newest revision by when it was reached, within `each` of each of `starts`, oldest first."""
        query: dict[str, Any] = {"starts": list(starts), "ends": [start + each for start in starts]}
        where = "" if tenants is None else "and tenant = any(%(tenants)s)"
        query |= {} if tenants is None else {"tenants": list(tenants)}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_OVER_TIME[by].format(where=where), query)).fetchall()
        return [Count(row["start"], row["kind"], row["verdicts"]) for row in rows]

    async def progress(self, tenant: str, upload_id: str) -> Progress:
        """How far an upload has come. What was never sent, or waits in Kafka, is `unknown`."""
        query = {"tenant": tenant, "upload_id": upload_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_PROGRESS, query)).fetchone()
        stage: Progress = row["stage"] if row else "unknown"
        return stage


# A range of the index for each hour or day, so that nothing is sorted: PostgreSQL cannot know how few hours there are.
_OVER_TIME: Final[dict[By, str]] = {
    by: f"""
select asked.start, found.kind, found.verdicts
from unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as asked (start, finish) cross join lateral (
    select {by} as kind, count(*) as verdicts from verdict
    where judged_at >= asked.start and judged_at < asked.finish {{where}} group by 1
) as found
order by 1, 2
"""
    for by in ("decision", "path", "tenant")
}
_OF = "where tenant = %(tenant)s and upload_id = %(upload_id)s"
_PROGRESS = f"""
select case when exists (select 1 from verdict {_OF}) then 'shown'
            when exists (select 1 from ledger {_OF}) then 'judged'
            when exists (select 1 from upload {_OF}) then 'taken_in' else 'unknown' end as stage
"""
