"""What people look at: the newest verdict of each upload, its history, reviews, and the cases worth learning from.

In: events of the `learn` group. Out: the same events, searched. A projection: everything but `review` can be built
again from Kafka, and each write may be repeated without changing anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from services.clients.database import Database, storable
from services.clients.deliveries import announce
from services.core.events import Decision, HardCaseFound, HardCaseReason, Path, ReviewDecided, VerdictReached


@dataclass(frozen=True, slots=True)
class VerdictFilter:
    """Which verdicts to list. None asks for all; an empty tuple for none. Conditions add up."""

    tenant: str | None = None
    tenants: tuple[str, ...] | None = None
    decisions: tuple[Decision, ...] | None = None
    paths: tuple[Path, ...] | None = None
    upload_ids: tuple[str, ...] | None = None
    sha256: str | None = None
    candidate_id: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list of verdicts, newest first: the one after which the next page starts."""

    judged_at: datetime
    tenant: str
    upload_id: str

    @classmethod
    def after(cls, verdict: VerdictReached) -> Self:
        """The cursor for the page that follows this last verdict of a page."""
        return cls(verdict.judged_at, verdict.tenant, verdict.upload_id)


class Verdicts:
    """Verdicts and reviews for the dashboard. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def project(self, verdict: VerdictReached) -> bool:
        """Store a verdict; a lower revision never replaces a higher one, in whatever order they come. In the same
        transaction it is queued for the webhooks that want it.

        True the first time. False says only that it was stored before, not that what follows from it was done.
        """
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_PROJECT, _row(verdict))).fetchone()
            if row is not None:
                await announce(connection, verdict)
        return row is not None

    async def find(
        self, chosen: VerdictFilter, *, limit: int = 50, before: Cursor | None = None
    ) -> list[VerdictReached]:
        """The newest revisions that fit, newest `judged_at` first, from after `before` on."""
        conditions, query = _conditions(chosen)
        if before is not None:
            conditions.append("(judged_at, tenant, upload_id) < (%(at)s, %(at_tenant)s, %(at_upload_id)s)")
            query |= {"at": before.judged_at, "at_tenant": before.tenant, "at_upload_id": before.upload_id}
        statement = f"{_where('select event from verdict', conditions)} {_NEWEST_FIRST}"
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query | {"limit": limit})).fetchall()
        return [VerdictReached.model_validate_json(row["event"]) for row in rows]

    async def get(self, tenant: str, upload_id: str) -> list[VerdictReached]:
        """Every revision of an upload's verdict, the first one first; empty if there is none."""
        async with self._database.connection() as connection:
            query = {"tenant": tenant, "upload_id": upload_id}
            rows = await (await connection.execute(_HISTORY, query)).fetchall()
        return [VerdictReached.model_validate_json(row["event"]) for row in rows]

    async def counts(self, chosen: VerdictFilter) -> dict[Decision, int]:
        """How many uploads have each decision, zeros included."""
        conditions, query = _conditions(chosen)
        statement = f"{_where('select decision, count(*) as uploads from verdict', conditions)} group by decision"
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query)).fetchall()
        found = {row["decision"]: row["uploads"] for row in rows}
        return {decision: found.get(decision.value, 0) for decision in Decision}

    async def record_review(self, review: ReviewDecided) -> bool:
        """Store a moderator's decision, and queue it for webhooks. True the first time this `decision_id` comes."""
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_RECORD_REVIEW, _review_row(review))).fetchone()
            if row is not None:
                await announce(connection, review)
        return row is not None


class HardCases:
    """Contents that the trainer should learn from, each once per tenant however often it was uploaded."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, case: HardCaseFound) -> bool:
        """Store a case: its reasons are merged into what is known of the content, the higher priority stays.

        True if this verdict (upload and revision) was the first to bring one of the reasons, so that the case is to be
        published. The same event gets the same answer for ever: a crash between this and publishing loses nothing.
        """
        async with self._database.connection() as connection, connection.transaction():
            await connection.execute(_ADD_CASE, _case_row(case))
            await connection.execute(_ADD_REASONS, _case_row(case))
            row = await (await connection.execute(_IS_FIRST, _case_row(case))).fetchone()
        return row is not None

    async def find(self, tenant: str, *, limit: int = 100) -> list[HardCaseFound]:
        """The tenant's cases, most urgent first, each as first found but with all its reasons and highest priority."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_CASES, {"tenant": tenant, "limit": limit})).fetchall()
        return [_merged(row) for row in rows]


_PROJECT = """
with history as (
    insert into verdict_history (tenant, upload_id, revision, event)
    values (%(tenant)s, %(upload_id)s, %(revision)s, %(event)s)
    on conflict do nothing
    returning 1
), newest as (
    insert into verdict (tenant, upload_id, revision, decision, path, score, area, sha256, candidate_id, filename,
                         uploaded_at, judged_at, event)
    values (%(tenant)s, %(upload_id)s, %(revision)s, %(decision)s, %(path)s, %(score)s, %(area)s, %(sha256)s,
            %(candidate_id)s, %(filename)s, %(uploaded_at)s, %(judged_at)s, %(event)s)
    on conflict (tenant, upload_id) do update
        set revision = excluded.revision, decision = excluded.decision, path = excluded.path, score = excluded.score,
            area = excluded.area, sha256 = excluded.sha256, candidate_id = excluded.candidate_id,
            filename = excluded.filename, uploaded_at = excluded.uploaded_at, judged_at = excluded.judged_at,
            event = excluded.event
        where excluded.revision > verdict.revision
)
select 1 from history
"""
_NEWEST_FIRST = "order by judged_at desc, tenant desc, upload_id desc limit %(limit)s"
_HISTORY = """
select event from verdict_history where tenant = %(tenant)s and upload_id = %(upload_id)s order by revision
"""
_RECORD_REVIEW = """
insert into review (tenant, decision_id, upload_id, of_revision, moderator, decision, decided_at, event)
values (%(tenant)s, %(decision_id)s, %(upload_id)s, %(of_revision)s, %(moderator)s, %(decision)s, %(decided_at)s,
        %(event)s)
on conflict do nothing
returning 1
"""

# The row lock that this takes (also where it changes nothing) lets one writer at a time weigh a content's reasons.
_ADD_CASE = """
insert into hard_case (tenant, sha256, priority, found_at, event)
values (%(tenant)s, %(sha256)s, %(priority)s, %(found_at)s, %(event)s)
on conflict (tenant, sha256) do update set priority = greatest(hard_case.priority, excluded.priority)
"""
_ADD_REASONS = """
insert into hard_case_reason (tenant, sha256, reason, upload_id, revision)
select %(tenant)s, %(sha256)s, reason, %(upload_id)s, %(revision)s from unnest(%(reasons)s::text[]) as reason
on conflict do nothing
"""
_IS_FIRST = """
select 1 from hard_case_reason
where tenant = %(tenant)s and sha256 = %(sha256)s and reason = any(%(reasons)s)
    and upload_id = %(upload_id)s and revision = %(revision)s
limit 1
"""
_CASES = """
select event, priority,
       array(select reason from hard_case_reason as brought
             where brought.tenant = hard_case.tenant and brought.sha256 = hard_case.sha256 order by reason) as reasons
from hard_case where tenant = %(tenant)s
order by priority desc, found_at, sha256
limit %(limit)s
"""


def _conditions(chosen: VerdictFilter) -> tuple[list[str], dict[str, Any]]:
    asked: list[tuple[str, str, Any]] = [
        ("tenant = %(tenant)s", "tenant", chosen.tenant),
        ("tenant = any(%(tenants)s)", "tenants", _values(chosen.tenants)),
        ("decision = any(%(decisions)s)", "decisions", _values(chosen.decisions)),
        ("path = any(%(paths)s)", "paths", _values(chosen.paths)),
        ("upload_id = any(%(upload_ids)s)", "upload_ids", _values(chosen.upload_ids)),
        ("sha256 = %(sha256)s", "sha256", chosen.sha256),
        ("candidate_id = %(candidate_id)s", "candidate_id", chosen.candidate_id),
        ("judged_at >= %(since)s", "since", chosen.since),
    ]
    given = [(condition, name, value) for condition, name, value in asked if value is not None]
    return [condition for condition, _, _ in given], {name: value for _, name, value in given}


def _values(chosen: tuple[str, ...] | None) -> list[str] | None:
    return None if chosen is None else [str(value) for value in chosen]


def _where(statement: str, conditions: list[str]) -> str:
    return f"{statement} where {' and '.join(conditions)}" if conditions else statement


def _row(verdict: VerdictReached) -> dict[str, Any]:
    return {
        "tenant": verdict.tenant,
        "upload_id": verdict.upload_id,
        "revision": verdict.revision,
        "decision": verdict.decision.value,
        "path": verdict.path.value,
        "score": verdict.score,
        "area": None if verdict.mask is None else verdict.mask.area,
        "sha256": None if verdict.image is None else verdict.image.sha256,
        "candidate_id": None if verdict.candidate is None else verdict.candidate.original_id,
        "filename": None if verdict.filename is None else storable(verdict.filename),
        "uploaded_at": verdict.uploaded_at,
        "judged_at": verdict.judged_at,
        "event": verdict.to_bytes().decode(),
    }


def _review_row(review: ReviewDecided) -> dict[str, Any]:
    return {
        "tenant": review.tenant,
        "decision_id": review.decision_id,
        "upload_id": review.upload_id,
        "of_revision": review.of_revision,
        "moderator": review.moderator,
        "decision": review.decision.value,
        "decided_at": review.decided_at,
        "event": review.to_bytes().decode(),
    }


def _case_row(case: HardCaseFound) -> dict[str, Any]:
    return {
        "tenant": case.tenant,
        "sha256": case.image.sha256,
        "upload_id": case.upload_id,
        "revision": case.revision,
        "reasons": [reason.value for reason in case.reasons],
        "priority": case.priority,
        "found_at": case.found_at,
        "event": case.to_bytes().decode(),
    }


def _merged(row: Mapping[str, Any]) -> HardCaseFound:
    reasons = tuple(HardCaseReason(reason) for reason in row["reasons"])
    case = HardCaseFound.model_validate_json(row["event"])
    return case.model_copy(update={"reasons": reasons, "priority": row["priority"]})
