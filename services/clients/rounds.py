"""Rounds of the learning loop in PostgreSQL: where the one in work stands, and what became of those before.

In: what each step brought. Out: rounds. One loop works at a time (`alone`); the lock is the database's and goes with a
process that dies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from psycopg.types.json import Jsonb

from services.clients.database import Database, storable
from services.core.errors import Broken
from services.core.learn.rounds import Done, Options, Round, following

LOOP_LOCK = 0x6C6F6F70  # an advisory lock; the number spells "loop"
ALONE_S = 30 * 86400.0  # a round on one small core may take days; beyond this it hangs

Still = Callable[[], Awaitable[None]]
"""Raises Unavailable where the lock was lost, because the connection that holds it was."""


class Rounds:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Still | None]:
        """No other loop works until the block ends. None where one does already."""
        async with self._database.alone(timeout_s=ALONE_S) as connection:
            row = await (await connection.execute("select pg_try_advisory_lock(%s) as ours", [LOOP_LOCK])).fetchone()

            async def still() -> None:
                await connection.execute("select 1")

            yield still if row and row["ours"] else None

    async def begin(self, options: Options) -> Round:
        """The round that is in work, with the options that it began with; a new one where there is none."""
        async with self._database.connection() as connection:
            await connection.execute(_BEGIN, {"options": Jsonb(options.model_dump(mode="json"))})
            row = await (await connection.execute(_OPEN)).fetchone()
        if row is None:
            raise Broken("the round was not stored")
        return _round(row)

    async def record(self, at: Round, done: Done) -> Round:
        """Write down what a round's step brought, and go to the next. Raises Broken where it is at another by now."""
        values = asdict(done) | {"reason": None if done.reason is None else storable(done.reason)}
        values |= {"id": at.id, "step": at.step, "next": following(at.step, done), "versions": Jsonb(done.versions)}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_RECORD, values)).fetchone()
        if row is None:
            raise Broken(f"round {at.id} is not at {at.step} any more: another loop works on it, start again")
        return _round(row)

    async def unseen(self, samples: Sequence[str]) -> int:
        """How many of these samples no round had in its dataset that is over and was not abandoned."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_UNSEEN, {"samples": list(samples)})).fetchone()
        return int(row["unseen"]) if row else 0

    async def newest(self, limit: int, *, before: int | None = None) -> list[Round]:
        """The newest rounds, the newest first; with `before` those older than the round of this number."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_NEWEST, {"limit": limit, "before": before})).fetchall()
        return [_round(row) for row in rows]


_BEGIN = """
insert into round (options) select %(options)s where not exists (select 1 from round where finished_at is null)
on conflict do nothing
"""
_OPEN = "select * from round where finished_at is null"
_RECORD = """
update round set
    step = %(next)s, times = times || jsonb_build_object(step, now()), versions = versions || %(versions)s,
    finished_at = case when %(decision)s::text is not null then now() end,
    new_samples = coalesce(%(new_samples)s, new_samples), dataset = coalesce(%(dataset)s, dataset),
    champion = coalesce(%(champion)s, champion), challenger = coalesce(%(challenger)s, challenger),
    weights_key = coalesce(%(weights_key)s, weights_key), report_key = coalesce(%(report_key)s, report_key),
    decision = %(decision)s, reason = %(reason)s
where id = %(id)s and step = %(step)s and finished_at is null
returning *
"""
_UNSEEN = """
select count(*) as unseen from unnest(%(samples)s::text[]) as asked (id) where not exists (
    select 1 from dataset_sample join round on round.dataset = dataset_sample.version
    where dataset_sample.sample_id = asked.id and round.finished_at is not null and decision <> 'abandoned'
)
"""
_NEWEST = """
select * from round where %(before)s::bigint is null or id < %(before)s order by id desc limit %(limit)s
"""


def _round(row: dict[str, Any]) -> Round:
    return Round(**{**row, "options": Options.model_validate(row["options"])})
