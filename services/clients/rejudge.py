"""Re-judging: verdicts that are to be reached again by the models that serve now, run by run.

In: which verdicts, and who serves. Out: one job at a time, at a pace that holds for all processes together. A job that
was claimed and not settled comes again when its lease is over, as with late originals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.clients.database import Database
from services.clients.late import State
from services.core.events import Decision, ModelVersion, Path, Rejudging, VerdictReached
from services.core.judge.again import names
from services.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Choice:
    """Which verdicts, by their newest revision. None asks for all of that kind; conditions add up.

    Without `decisions`: those that `policy` finds doubtful. `force`: also those that `models` reached themselves. Never
    those of moderators, or of uploads that were rejected.
    """

    models: tuple[ModelVersion, ...]
    policy: Policy
    tenant: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    decisions: tuple[Decision, ...] | None = None
    paths: tuple[Path, ...] | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """The verdict after which the next page of a choice starts, newest first."""

    judged_at: datetime
    tenant: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class RejudgeJob:
    """An upload to be judged again. `attempts` counts claims, this one included."""

    tenant: str
    upload_id: str
    asked: Rejudging
    attempts: int
    queued_at: datetime


@dataclass(frozen=True, slots=True)
class ChosenCount:
    """Verdicts of a choice of one kind."""

    tenant: str
    path: str
    decision: str
    uploads: int


class RejudgeRuns:
    """Asks for verdicts to be reached again. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, choice: Choice) -> list[ChosenCount]:
        """What a run of this choice would queue."""
        conditions, query = _conditions(choice)
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_COUNT.format(conditions), query)).fetchall()
        return [ChosenCount(**row) for row in rows]

    async def begin(self, choice: Choice, rate: float | None) -> int:
        """A new run without uploads: its id. `rate`: uploads a second; None: as the settings say."""
        query = {"chosen": _as_json(choice), "models": names(choice.models), "rate": rate}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BEGIN, query)).fetchone()
        assert row is not None
        return int(row["id"])

    async def queue(self, run: int, choice: Choice, *, after: Place | None, limit: int) -> tuple[int, Place | None]:
        """Queue the next page of a choice, and where it ended; None where there is no further one.

        A verdict that these models were asked for before, at this revision, is queued again only if it was skipped, or
        if `force` asks for what is over.
        """
        conditions, query = _conditions(choice)
        query |= {"run": run, "limit": limit}
        if after is not None:
            conditions += (
                " and (verdict.judged_at, verdict.tenant, verdict.upload_id) < (%(at)s, %(at_tenant)s, %(at_id)s)"
            )
            query |= {"at": after.judged_at, "at_tenant": after.tenant, "at_id": after.upload_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_QUEUE.format(conditions), query)).fetchone()
        if row is None:
            return 0, None
        return row["queued"], Place(row["judged_at"], row["tenant"], row["upload_id"])


class RejudgeQueue:
    """The queue. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due_in_s(self) -> float | None:
        """Seconds until the pace lets `claim` give out a job; None where none is due."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_DUE)).fetchone()
        return None if row is None else float(row["seconds"])

    async def claim(self, *, pause_s: float, lease_s: float) -> RejudgeJob | None:
        """A job of the oldest run that has one due, to be settled within `lease_s` or else given out again.

        None where nothing is due, or the run's last job was given out less than `pause_s` ago; its own rate goes first.
        """
        async with self._database.connection() as connection, connection.transaction():
            run = await (await connection.execute(_TAKE_SLOT, {"pause_s": pause_s})).fetchone()
            if run is None:
                return None
            row = await (await connection.execute(_CLAIM, {"run": run["id"], "lease_s": lease_s})).fetchone()
        return None if row is None else _job(row, run["models"])

    async def postpone(self, job: RejudgeJob, *, for_s: float) -> None:
        """Give a claimed job out again, but not before so many seconds."""
        query = {"tenant": job.tenant, "upload_id": job.upload_id, "run": job.asked.run, "for_s": for_s}
        async with self._database.connection() as connection:
            await connection.execute(_POSTPONE, query)

    async def settle(
        self,
        tenant: str,
        upload_id: str,
        run: int,
        state: State,
        *,
        reason: str | None = None,
        verdict: VerdictReached | None = None,
    ) -> bool:
        """What became of a job, and the verdict that was reached. `revised` is for ever. Whether that was news."""
        query = {
            "tenant": tenant,
            "upload_id": upload_id,
            "run": run,
            "state": state,
            "reason": reason,
            "decision": verdict.decision.value if verdict else None,
            "path": verdict.path.value if verdict else None,
            "score": verdict.score if verdict else None,
        }
        async with self._database.connection() as connection:
            return (await connection.execute(_SETTLE, query)).rowcount > 0

    async def waiting(self) -> int:
        """How many uploads are queued, of all runs."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        return row["uploads"] if row else 0


# The projection says which revision is the newest, the ledger who reached it.
_CHOSEN = """
from verdict join ledger on ledger.tenant = verdict.tenant and ledger.upload_id = verdict.upload_id
    and ledger.revision = verdict.revision
where verdict.sha256 is not null and verdict.path not in ('rejected', 'reviewed') and not exists (
    select 1 from rejudge join rejudge_run on rejudge_run.id = rejudge.run
    where rejudge.tenant = verdict.tenant and rejudge.upload_id = verdict.upload_id
        and rejudge.revision = verdict.revision and rejudge_run.models = %(models)s::text[]
        and (rejudge.state in ('queued', 'sent') or (rejudge.state <> 'skipped' and not %(force)s))
) and {}
"""
_COUNT = f"""
select verdict.tenant, verdict.path, verdict.decision, count(*) as uploads {_CHOSEN}
group by verdict.tenant, verdict.path, verdict.decision order by uploads desc, 1, 2, 3
"""
_BEGIN = """
insert into rejudge_run (chosen, models, rate) values (%(chosen)s::jsonb, %(models)s::text[], %(rate)s) returning id
"""
_QUEUE = f"""
with page as (
    select verdict.tenant, verdict.upload_id, verdict.revision, verdict.decision, verdict.path, verdict.score,
           verdict.judged_at {_CHOSEN}
    order by verdict.judged_at desc, verdict.tenant desc, verdict.upload_id desc limit %(limit)s
), queued as (
    insert into rejudge (run, tenant, upload_id, revision, decision, path, score)
    select %(run)s, tenant, upload_id, revision, decision, path, score from page
    on conflict do nothing returning 1
)
select judged_at, tenant, upload_id, (select count(*) from queued) as queued from page
order by judged_at, tenant, upload_id limit 1
"""
_OPEN = """
select id from rejudge_run
where exists (select 1 from rejudge where run = id and state = 'queued' and due_at <= now())
order by id limit 1
"""
_DUE = f"""
select extract(epoch from greatest(next_at, now()) - now()) as seconds from rejudge_run where id = ({_OPEN})
"""
# A run's row is its pace: its lock makes the processes take turns; who comes too early finds that `next_at` has moved.
_TAKE_SLOT = f"""
update rejudge_run set next_at = now() + make_interval(secs => coalesce(1 / rate, %(pause_s)s))
where id = ({_OPEN}) and next_at <= now()
returning id, models
"""
_CLAIM = """
update rejudge set attempts = attempts + 1, due_at = now() + make_interval(secs => %(lease_s)s)
where (run, tenant, upload_id) = (
    select run, tenant, upload_id from rejudge
    where run = %(run)s and state = 'queued' and due_at <= now()
    order by due_at, queued_at limit 1 for update skip locked
)
returning *
"""
_JOB = "run = %(run)s and tenant = %(tenant)s and upload_id = %(upload_id)s"
_POSTPONE = f"""
update rejudge set due_at = now() + make_interval(secs => %(for_s)s) where {_JOB} and state = 'queued'
"""
_SETTLE = f"""
update rejudge set state = %(state)s, reason = %(reason)s, settled_at = now(), new_decision = %(decision)s,
    new_path = %(path)s, new_score = %(score)s
where {_JOB} and state <> %(state)s and (state = 'queued' or (state = 'sent' and %(state)s <> 'sent')
                                         or (state in ('skipped', 'unchanged') and %(state)s = 'revised'))
"""
_WAITING = "select count(*) as uploads from rejudge where state = 'queued'"


def _conditions(choice: Choice) -> tuple[str, dict[str, Any]]:
    asked: list[tuple[str, str, Any]] = [
        ("verdict.tenant = %(tenant)s", "tenant", choice.tenant),
        ("verdict.judged_at >= %(since)s", "since", choice.since),
        ("verdict.judged_at < %(until)s", "until", choice.until),
        ("verdict.decision = any(%(decisions)s)", "decisions", choice.decisions and [*map(str, choice.decisions)]),
        ("verdict.path = any(%(paths)s)", "paths", choice.paths and [*map(str, choice.paths)]),
    ]
    conditions = [condition for condition, _, value in asked if value is not None]
    query = {name: value for _, name, value in asked if value is not None}
    if choice.decisions is None:
        conditions.append(_DOUBTFUL)
        for name, path in (("pair", choice.policy.constrained), ("alone", choice.policy.unconstrained)):
            query |= {f"{name}_from": path.doubtful_at, f"{name}_to": path.manipulated_at}
    if not choice.force:
        conditions.append("not ledger.models <@ %(models)s::text[]")
    return " and ".join(conditions) or "true", query | {"models": names(choice.models), "force": choice.force}


_DOUBTFUL = """
(verdict.decision = 'inconclusive' or case when verdict.path like 'constrained-%%'
    then verdict.score >= %(pair_from)s and verdict.score < %(pair_to)s
    else verdict.score >= %(alone_from)s and verdict.score < %(alone_to)s end)
"""


def _as_json(choice: Choice) -> str:
    return json.dumps(
        {
            "tenant": choice.tenant,
            "since": choice.since.astimezone(UTC).isoformat() if choice.since else None,
            "until": choice.until.astimezone(UTC).isoformat() if choice.until else None,
            "decisions": choice.decisions or f"doubtful by {choice.policy.version}",
            "paths": choice.paths,
            "force": choice.force,
        }
    )


def _job(row: Mapping[str, Any], models: list[str]) -> RejudgeJob:
    named = tuple(ModelVersion(name=name, version=version) for name, _, version in (m.partition("@") for m in models))
    return RejudgeJob(
        tenant=row["tenant"],
        upload_id=row["upload_id"],
        asked=Rejudging(run=row["run"], revision=row["revision"], models=named),
        attempts=row["attempts"],
        queued_at=row["queued_at"],
    )
