"""Who has which case before them: one case, one person, and no case lost.

In: a person, and which case, or whichever comes next. Out: the case, locked until a time that heartbeats put off; or
why not. A lock that has expired can be taken by anybody, and is its owner's until then. `for update skip locked` lets
any number of people ask at once without waiting for each other, and never gives a case twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from services.clients.audit import record_with
from services.clients.database import Connection, Database, storable
from services.clients.review_cases import ADD_NOTE
from services.clients.review_queue import CaseFilter, waiting_for
from services.clients.review_rows import NO_CASE, VISIBLE, Refusal, rank_of, viewer
from services.core.access import Person, Role

Ending = Literal["skipped", "released"]
NOT_YOURS = Refusal("not_yours", "You do not have this case before you: somebody took it over, or it was given back.")
CLOSED = Refusal("case_closed", "This case is decided, or needs nobody any more.")


@dataclass(frozen=True, slots=True)
class LockRules:
    """How long a lock holds, and how long a case stays away from whoever skipped it."""

    lock: timedelta
    skip: timedelta


class ReviewClaims:
    """Gives cases to people. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, rules: LockRules) -> None:
        self._database = database
        self._rules = rules

    async def next(self, person: Person, chosen: CaseFilter, *, now: datetime) -> str | None:
        """The most urgent case that nobody has, now this person's; None where none waits for them."""
        where, query = waiting_for(person, chosen)
        query |= self._times(now) | {"skipped_since": now - self._rules.skip}
        statement = _NEXT.format(where=" and ".join(where))
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(statement, query)).fetchone()
            if row is None:
                return None
            await lock(connection, {**query, "id": row["id"], "tenant": row["tenant"]})
        return str(row["id"])

    async def held(self, person: Person, chosen: CaseFilter, *, now: datetime) -> str | None:
        """The case that a person has before them already, its lock renewed; None where they have none that fits."""
        query = {**viewer(person), **self._times(now), "tenant": chosen.tenant, "kind": chosen.kind}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_HELD, query)).fetchone()
            if row is not None:
                await connection.execute(_RENEW, {**query, "id": row["id"]})
        return None if row is None else str(row["id"])

    async def take(self, person: Person, case_id: str, *, by_force: bool, now: datetime) -> Refusal | None:
        """Take one case: a free one, one whose lock has expired, or `by_force` any. None where it is theirs now."""
        query = {**viewer(person), **self._times(now), "id": case_id}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_FOR_UPDATE, query)).fetchone()
            refusal = _refusal(row, person, by_force=by_force, now=now)
            if row is None or refusal is not None:
                return refusal or NO_CASE
            if row["locked_by"] == person.subject and row["locked_until"] > now:
                await connection.execute(_RENEW, query)
            else:
                await lock(connection, {**query, "tenant": row["tenant"]})
            if _others(row, person, now):
                details = {"case": str(row["id"]), "from": row["locked_name"]}
                await record_with(connection, person, "review_taken_over", tenant=row["tenant"], details=details)
        return None

    async def renew(self, person: Person, case_id: str, *, now: datetime) -> datetime | Refusal:
        """Put off the end of a lock: until when it holds now."""
        query = {**viewer(person), **self._times(now), "id": case_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_RENEW, query)).fetchone()
        return NOT_YOURS if row is None else query["until"]

    async def give_back(
        self, person: Person, case_id: str, ending: Ending, *, note: str | None = None, now: datetime
    ) -> Refusal | None:
        """Let go of a case. With a `note` it goes to the leads."""
        outcome = "escalated" if note is not None else ending
        query = {**viewer(person), "id": case_id, "now": now, "outcome": outcome}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_UNLOCK, query)).fetchone()
            if row is None:
                return NOT_YOURS
            await connection.execute(END_CLAIM, query)
            if note is not None:
                escalated = {**query, "rank": rank_of(row, escalated=True), "kind": "escalated"}
                await connection.execute(_ESCALATE, escalated)
                await connection.execute(ADD_NOTE, {**escalated, "note": storable(note)})
                details = {"case": str(row["id"])}
                await record_with(connection, person, "review_escalated", tenant=row["tenant"], details=details)
        return None

    def _times(self, now: datetime) -> dict[str, Any]:
        return {"now": now, "until": now + self._rules.lock}


# The row's own lock is held until the transaction ends: others pass it over, as they do once it is written.
_NEXT = """
select id, tenant from review_case
where {where} and (locked_until is null or locked_until <= %(now)s) and not exists (
    select 1 from review_claim where case_id = review_case.id and person = %(person)s
        and outcome = 'skipped' and ended_at > %(skipped_since)s
)
order by rank desc, id desc limit 1 for update skip locked
"""
_HELD = """
select id from review_case
where locked_by = %(person)s and state = 'open' and locked_until > %(now)s
    and (%(tenants)s::text[] is null or tenant = any(%(tenants)s::text[]))
    and (%(tenant)s::text is null or tenant = %(tenant)s) and (%(kind)s::text is null or kind = %(kind)s)
order by locked_until desc limit 1
"""
_FOR_UPDATE = f"select * from review_case where id = %(id)s and {VISIBLE} for update"
_WRITE_LOCK = """
update review_case set locked_by = %(person)s, locked_name = %(name)s, locked_until = %(until)s where id = %(id)s
"""
_LOSE = """
update review_claim set ended_at = least(seen_at, %(now)s), outcome = 'lost' where case_id = %(id)s and ended_at is null
"""
_CLAIMED = """
insert into review_claim (case_id, tenant, person, name, claimed_at, seen_at)
values (%(id)s, %(tenant)s, %(person)s, %(name)s, %(now)s, %(now)s)
"""
_RENEW = """
with renewed as (
    update review_case set locked_until = %(until)s where id = %(id)s and locked_by = %(person)s and state = 'open'
    returning id
)
update review_claim set seen_at = %(now)s from renewed
where case_id = renewed.id and person = %(person)s and ended_at is null returning case_id
"""
_UNLOCK = """
update review_case set locked_by = null, locked_name = null, locked_until = null
where id = %(id)s and locked_by = %(person)s and state = 'open' returning *
"""
END_CLAIM = """
update review_claim set ended_at = %(now)s, seen_at = %(now)s, outcome = %(outcome)s
where case_id = %(id)s and person = %(person)s and ended_at is null
"""
_ESCALATE = "update review_case set escalated = true, rank = %(rank)s where id = %(id)s"


async def lock(connection: Connection, query: dict[str, Any]) -> None:
    """Lock a case for a person, in a transaction that has its row: `id`, `tenant`, `person`, `name`, `now`, `until`."""
    for statement in (_LOSE, _WRITE_LOCK, _CLAIMED):
        await connection.execute(statement, query)


def _refusal(row: Mapping[str, Any] | None, person: Person, *, by_force: bool, now: datetime) -> Refusal | None:
    """Why a person cannot have a case."""
    if row is None:
        return NO_CASE
    if row["state"] != "open" or person.subject in (row["first_by"], row["second_by"]):
        return CLOSED
    if row["escalated"] and not person.may(Role.LEAD):
        return Refusal("escalated", "This case was escalated: a lead decides it.")
    if _others(row, person, now) and not by_force:
        return Refusal("case_locked", f"{row['locked_name']} has this case before them.")
    return None


def _others(row: Mapping[str, Any], person: Person, now: datetime) -> bool:
    """Whether somebody else has the case before them."""
    return row["locked_by"] is not None and row["locked_by"] != person.subject and bool(row["locked_until"] > now)
