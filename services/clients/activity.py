"""How many verdicts were reached when, and how far an upload has come.

In: a span of time and what to tell apart; or an upload. Out: counts by hour or day, over an index that holds nothing
else; or the stage that an upload is at, as its rows tell it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from services.clients.database import Database

By = Literal["decision", "path", "tenant"]
Every = Literal["hour", "day"]
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
        self, *, by: By, every: Every, since: datetime, until: datetime, tenants: Collection[str] | None = None
    ) -> list[Count]:
        """Verdicts in their newest revision by when it was reached, oldest first; nothing where none were."""
        query: dict[str, Any] = {"every": f"1 {every}", "since": since, "until": until}
        where = "judged_at >= %(since)s and judged_at < %(until)s"
        if tenants is not None:
            where, query = f"{where} and tenant = any(%(tenants)s)", query | {"tenants": list(tenants)}
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


_OVER_TIME: Final[dict[By, str]] = {
    by: f"""
select date_bin(%(every)s::interval, judged_at, '2000-01-01 00:00Z') as start, {by} as kind, count(*) as verdicts
from verdict where {{where}} group by 1, 2 order by 1, 2
"""
    for by in ("decision", "path", "tenant")
}
_OF = "where tenant = %(tenant)s and upload_id = %(upload_id)s"
_PROGRESS = f"""
select case when exists (select 1 from verdict {_OF}) then 'shown'
            when exists (select 1 from ledger {_OF}) then 'judged'
            when exists (select 1 from upload {_OF}) then 'taken_in' else 'unknown' end as stage
"""
