"""Where things stand: uploads without a verdict, hard cases, samples, rounds. What operators' metrics show.

In: nothing but the database. Out: a `Standing`, counted by PostgreSQL, so that it holds for all workers together.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.clients.database import Database

PATIENCE_S = 1200.0
"""An upload may wait for a server that is away for `stage.retry_for_s` (900 s) before it becomes a dead letter."""

WINDOW_S = 3600.0
"""Uploads are asked about for so long: beyond it the dead letters tell, and the count would grow with the table."""


@dataclass(frozen=True, slots=True)
class Standing:
    """`unjudged`: accepted longer than `PATIENCE_S` ago, within `WINDOW_S`. Ages in seconds; None: no such round."""

    unjudged: int
    hard_cases_open: int
    samples: int
    round_open_s: float | None
    round_ended_s: float | None


class Standings:
    """Raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self, *, patience_s: float = PATIENCE_S, window_s: float = WINDOW_S) -> Standing:
        """How things stand."""
        asked = {"patience": patience_s, "window": patience_s + window_s}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_STANDING, asked)).fetchone()
        assert row is not None
        return Standing(**row)


_STANDING = """
select
    (select count(*) from upload
     where accepted_at < now() - make_interval(secs => %(patience)s)
         and accepted_at >= now() - make_interval(secs => %(window)s)
         and not exists (
             select 1 from ledger where ledger.tenant = upload.tenant and ledger.upload_id = upload.upload_id
         )) as unjudged,
    (select count(*) from hard_case
     where not exists (
         select 1 from annotation where annotation.tenant = hard_case.tenant and annotation.sha256 = hard_case.sha256
     )) as hard_cases_open,
    (select count(*) from sample where set_aside is null) as samples,
    (select extract(epoch from now() - max(started_at))::double precision from round
     where finished_at is null) as round_open_s,
    (select extract(epoch from now() - max(finished_at))::double precision from round) as round_ended_s
"""
