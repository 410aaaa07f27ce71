"""Cases whose answer is known: added by leads, shown among others, each to a person once.

In: settled verdicts and their answers. Out: a case of its own for each person who is shown one, which looks like any
other: as old as those that wait, with the verdict as it stood before it was decided. It is in no queue, and what is
decided about it is never published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from services.clients.database import Connection, Database
from services.clients.review_cases import ADD_MEMBER, member_row
from services.clients.review_claims import LockRules, lock
from services.clients.review_rows import Refusal, viewer
from services.core.access import Person
from services.core.events import VerdictReached
from services.core.review.cases import Kind, Standing, rank

Answer = Literal["manipulated", "no_evidence"]


@dataclass(frozen=True, slots=True)
class Honeypot:
    """A known answer. It was `shown` to so many people, and so many were `right`."""

    id: str
    tenant: str
    upload_id: str
    revision: int
    answer: Answer
    added_by: str
    added_at: datetime
    retired_at: datetime | None
    shown: int
    right: int


class ReviewHoneypots:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, rules: LockRules) -> None:
        self._database = database
        self._rules = rules

    async def add(
        self, person: Person, verdict: VerdictReached, kind: Kind, answer: Answer, *, now: datetime
    ) -> Honeypot | Refusal:
        """Add an upload, to be shown with this verdict."""
        query = {**viewer(person), **member_row(verdict), "id": uuid4(), "kind": kind, "answer": answer, "now": now}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ADD, query)).fetchone()
            if row is None:
                return Refusal("honeypot_exists", f"Upload {verdict.upload_id!r} is one already.")
            found = await (await connection.execute(f"{_LIST} where id = %(id)s", query)).fetchone()
        assert found is not None
        return _honeypot(found)

    async def list(self, person: Person, tenant: str | None) -> list[Honeypot]:
        """All that a lead may see, the latest first."""
        query = {**viewer(person), "tenant": tenant}
        async with self._database.connection() as connection:
            rows = await (
                await connection.execute(f"{_LIST} where {_SEEN} order by added_at desc, id", query)
            ).fetchall()
        return [_honeypot(row) for row in rows]

    async def retire(self, person: Person, honeypot_id: str, *, now: datetime) -> bool:
        """Show it to nobody any more. Whether there is such a one."""
        query = {**viewer(person), "id": honeypot_id, "tenant": None, "now": now}
        async with self._database.connection() as connection:
            return (await connection.execute(f"{_RETIRE} and {_SEEN}", query)).rowcount > 0

    async def serve(self, person: Person, tenant: str | None, *, now: datetime) -> str | None:
        """A case that the person has before them now; None where there is none that they have not had."""
        query = {**viewer(person), "tenant": tenant, "now": now, "until": now + self._rules.lock}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_UNSEEN, query)).fetchone()
            if row is None:
                return None
            verdict = VerdictReached.model_validate_json(row["event"])
            case_id = uuid4()
            await _open(connection, {**query, **member_row(verdict), "id": case_id}, row)
            await lock(connection, {**query, "id": case_id, "tenant": verdict.tenant})
        return str(case_id)


_ADD = """
insert into review_honeypot (id, tenant, upload_id, sha256, kind, revision, answer, added_by, added_at)
values (%(id)s, %(tenant)s, %(upload_id)s, %(sha256)s, %(kind)s, %(revision)s, %(answer)s, %(name)s, %(now)s)
on conflict do nothing returning id
"""
_LIST = """
select review_honeypot.*, answers.shown, answers.right from review_honeypot cross join lateral (
    select count(*) as shown, count(*) filter (where review_decision.decision = review_honeypot.answer) as right
    from review_case join review_decision on case_id = review_case.id and undone_at is null
    where review_case.honeypot = review_honeypot.id
) as answers
"""
_SEEN = """
(%(tenant)s::text is null or tenant = %(tenant)s) and (%(tenants)s::text[] is null or tenant = any(%(tenants)s))
"""
_RETIRE = "update review_honeypot set retired_at = %(now)s where id = %(id)s and retired_at is null"
# Nobody is asked about what they decided themselves, or have had in another case.
_UNSEEN = f"""
select review_honeypot.*, verdict_history.event
from review_honeypot join verdict_history using (tenant, upload_id, revision)
where {_SEEN} and retired_at is null and not exists (
    select 1 from review_member join review_claim using (case_id)
    where review_member.tenant = review_honeypot.tenant and review_member.sha256 = review_honeypot.sha256
        and person = %(person)s
)
order by md5(id::text || %(person)s) limit 1
"""
_OLDEST = """
select opened_at from review_case where state = 'open' and honeypot is null and tenant = %(tenant)s
order by rank desc limit 1
"""
_OPEN = """
insert into review_case (id, tenant, cluster, kind, nearness, weight, members, rank, opened_at, upload_id, revision,
                         honeypot)
values (%(id)s, %(tenant)s, %(sha256)s, %(kind)s, %(nearness)s, 1, 1, %(rank)s, %(opened_at)s, %(upload_id)s,
        %(revision)s, %(honeypot)s)
"""


async def _open(connection: Connection, query: dict[str, Any], row: Mapping[str, Any]) -> None:
    oldest = await (await connection.execute(_OLDEST, query)).fetchone()
    opened_at = query["now"] if oldest is None else oldest["opened_at"]
    facts = Standing(row["kind"], nearness=0.5, weight=1.0, members=1, escalated=False, opened_at=opened_at)
    case = {"kind": facts.kind, "nearness": facts.nearness, "opened_at": opened_at, "rank": rank(facts)}
    await connection.execute(_OPEN, {**query, **case, "honeypot": row["id"]})
    await connection.execute(ADD_MEMBER, {**query, "now": opened_at})


def _honeypot(row: Mapping[str, Any]) -> Honeypot:
    plain = {name: row[name] for name in Honeypot.__slots__ if name != "id"}
    return Honeypot(id=str(row["id"]), **plain)
