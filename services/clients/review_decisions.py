"""Decisions on review cases: made, undone, and looked up. Publishing them is the outbox's (review_outbox.py).

In: a person's word on members of a case. Out: the decision as it is stored; or why not. What it does to its case is in
review_settling.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from services.clients.audit import record_with
from services.clients.database import Connection, Database, storable
from services.clients.review_claims import CLOSED, END_CLAIM, NOT_YOURS
from services.clients.review_rows import (
    DECISION,
    NO_CASE,
    VISIBLE,
    Decided,
    Refusal,
    decided_of,
    viewer,
)
from services.clients.review_settling import reopen, settle
from services.core.access import Person
from services.core.review.decisions import Word, part_of, unseen

KEY_REUSED = Refusal("key_reused", "This idempotency key was used for another decision: take a new one for each.")
CHANGED = Refusal("case_changed", "The case has changed since you saw it: look at it once more.")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody decides. `members` are upload ids, or all of a case (None); `at_most` so many, None: no limit.
    `upload_id` and `revision`: what they looked at, where they say so. `key` names the request, `digest` what it says:
    sent again it gets the same answer.
    """

    word: Word
    members: tuple[str, ...] | None
    at_most: int | None
    upload_id: str | None
    revision: int | None
    key: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """The decision that the same request led to before."""

    decided: Decided


@dataclass(frozen=True, slots=True)
class DecisionPlace:
    """The decision after which a page begins."""

    decided_at: datetime
    id: str


class ReviewDecisions:
    """Stores decisions. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, *, second_share: float) -> None:
        self._database = database
        self._second_share = second_share

    async def decide(
        self, person: Person, case_id: str, asked: Request, *, now: datetime, publish_at: datetime
    ) -> Decided | Repeated | Refusal:
        """Decide members of a case that the person has before them."""
        query = {**viewer(person), "id": case_id, "now": now, "publish_at": publish_at, "outcome": "decided"}
        query |= {"request_key": asked.key, "request_digest": asked.digest}
        async with self._database.connection() as connection, connection.transaction():
            case = await (await connection.execute(_CASE, query)).fetchone()
            earlier = await _earlier(connection, query)
            if case is None or earlier is not None:
                return earlier or NO_CASE
            if case["state"] != "open" or case["locked_by"] != person.subject:
                return CLOSED if case["state"] != "open" else NOT_YOURS
            if asked.upload_id not in (None, case["upload_id"]) or asked.revision not in (None, case["revision"]):
                return CHANGED
            uploads = await _chosen(connection, case, asked)
            if isinstance(uploads, Refusal):
                return uploads
            part = part_of(
                str(case["id"]),
                honeypot=case["honeypot"] is not None,
                escalated=case["escalated"],
                decided_once=case["first_by"] is not None and case["second_by"] is None,
                second_share=self._second_share,
            )
            decision_id = uuid4()
            row = {**query, **_columns(asked.word), "decision_id": decision_id, "part": part, "uploads": uploads}
            if await (await connection.execute(_INSERT, row)).fetchone() is None:
                return KEY_REUSED  # just now, on another case
            await connection.execute(END_CLAIM, row)
            await settle(connection, case, row, part, asked.word)
            await _write_down(connection, person, case, row)
            return await _one(connection, str(decision_id))

    async def repeated(self, person: Person, key: str, digest: str) -> Repeated | Refusal | None:
        """The answer to a request that came before, whatever has changed since; None for a new key."""
        query = {**viewer(person), "request_key": key, "request_digest": digest}
        async with self._database.connection() as connection:
            return await _earlier(connection, query)

    async def undo(self, person: Person, decision_id: str, *, now: datetime) -> Decided | Refusal:
        """Take back a decision of one's own of which nothing was published yet: its case is open again. Not once
        somebody has decided after it: their word stands on it.
        """
        query = {**viewer(person), "decision_id": decision_id, "now": now}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_OWN, query)).fetchone()
            if row is None:
                return Refusal("no_decision", "There is no such decision of yours.")
            case = await (await connection.execute(_CASE_ROW, {"id": row["case_id"]})).fetchone()
            decision = await _one(connection, decision_id)
            if decision.undone_at is not None:
                return Refusal("already_undone", "This decision was undone before.")
            query["case_id"] = row["case_id"]
            outcomes = await (await connection.execute(_OUTCOMES, query)).fetchall()
            overtaken = case is None or await _overtaken(connection, case, row)
            if case is None or decision.publish_at <= now or any(each["sent_at"] for each in outcomes) or overtaken:
                return Refusal("too_late", "The time in which this decision can be undone is over.")
            await connection.execute(_HOLD_BACK, {"decisions": [each["decision_id"] for each in outcomes]})
            await connection.execute(_UNDO, query)
            await reopen(connection, case, row)
            details = {"case": str(row["case_id"]), "decision_id": decision_id}
            await record_with(connection, person, "review_undone", tenant=row["tenant"], details=details)
            return await _one(connection, decision_id)

    async def get(self, person: Person, decision_id: str) -> Decided | None:
        """One decision: a person's own, or for leads anybody's that no second one is still to be made of."""
        query = {**viewer(person), "decision_id": decision_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_GET, query)).fetchone()
        return None if row is None else decided_of(row)

    async def mine(self, person: Person, *, limit: int, after: DecisionPlace | None) -> list[Decided]:
        """A person's decisions, newest first, from after a place on."""
        query: dict[str, Any] = {**viewer(person), "limit": limit, "at": None, "after": None}
        if after is not None:
            query |= {"at": after.decided_at, "after": after.id}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_MINE, query)).fetchall()
        return [decided_of(row) for row in rows]

    async def of_case(self, person: Person, case_id: str) -> list[Decided]:
        """The decisions on a case, oldest first: a person's own, or for leads all that `get` shows."""
        query = {**viewer(person), "id": case_id}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_OF_CASE, query)).fetchall()
        return [decided_of(row) for row in rows]


_CASE = f"select * from review_case where id = %(id)s and {VISIBLE} for update"
_CASE_ROW = "select * from review_case where id = %(id)s for update"
_BY_KEY = f"{DECISION} where person = %(person)s and request_key = %(request_key)s"
_OPEN_MEMBERS = """
select upload_id, sha256 from review_member where case_id = %(id)s and state = 'open' order by joined_at, upload_id
"""
_INSERT = """
insert into review_decision (id, case_id, tenant, person, name, part, decision, reason_codes, comment, mask_key,
                             mask_of, decided_at, publish_at, seconds, request_key, request_digest)
select %(decision_id)s, id, tenant, %(person)s, %(name)s, %(part)s, %(decision)s, %(reason_codes)s, %(comment)s,
       %(mask_key)s, %(mask_of)s, %(now)s, %(publish_at)s, coalesce((
           select extract(epoch from %(now)s - claimed_at) from review_claim
           where case_id = review_case.id and person = %(person)s and ended_at is null order by id desc limit 1
       ), 0), %(request_key)s, %(request_digest)s
from review_case where id = %(id)s
on conflict (person, request_key) where request_key is not null do nothing returning id
"""
_OWN = "select * from review_decision where id = %(decision_id)s and person = %(person)s for update"
# Where a second decision agreed, it may be the first one's events that are on their way.
_OUTCOMES = """
select decision_id, upload_id, sent_at from review_outcome
where decision_id in (
    select %(decision_id)s::uuid
    union select first_decision from review_case where id = %(case_id)s and second_decision = %(decision_id)s
)
for update
"""
_LATER = """
select 1 from review_decision
where case_id = %(case_id)s and id <> %(id)s and undone_at is null and decided_at > %(decided_at)s limit 1
"""
_HOLD_BACK = "update review_outcome set due_at = null where decision_id = any(%(decisions)s)"
_UNDO = "update review_decision set undone_at = %(now)s where id = %(decision_id)s"
# Leads see what others decided, but no first decision while its second is open: they may be the one who makes it.
_SEEN = """
(person = %(person)s or %(lead)s and (%(tenants)s::text[] is null or tenant = any(%(tenants)s::text[])) and not exists (
    select 1 from review_case where id = review_decision.case_id and first_decision = review_decision.id
        and state = 'open' and not escalated and first_by is not null and second_by is null
))
"""
_GET = f"{DECISION} where review_decision.id = %(decision_id)s and {_SEEN}"
_MINE = f"""
{DECISION} where person = %(person)s and (%(at)s::timestamptz is null or (decided_at, id) < (%(at)s, %(after)s::uuid))
order by decided_at desc, id desc limit %(limit)s
"""
_OF_CASE = f"{DECISION} where case_id = %(id)s and {_SEEN} order by decided_at, id"


async def _write_down(connection: Connection, person: Person, case: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    """A decision's entry in the audit log, about the upload that was shown where it was decided, too."""
    uploads, shown = row["uploads"], case["upload_id"]
    said = {"decision_id": str(row["decision_id"]), "decision": row["decision"], "uploads": len(uploads)}
    named = shown if shown in uploads else next(iter(uploads), None)
    details = {"case": str(case["id"]), **said}
    await record_with(connection, person, "review_decided", tenant=case["tenant"], upload_id=named, details=details)


async def _earlier(connection: Connection, query: dict[str, Any]) -> Repeated | Refusal | None:
    if query["request_key"] is None:
        return None
    row = await (await connection.execute(_BY_KEY, query)).fetchone()
    if row is None:
        return None
    return Repeated(decided_of(row)) if row["request_digest"] == query["request_digest"] else KEY_REUSED


async def _chosen(connection: Connection, case: Mapping[str, Any], asked: Request) -> list[str] | Refusal:
    """The uploads that a request means, those of the very same file included."""
    rows = await (await connection.execute(_OPEN_MEMBERS, case)).fetchall()
    contents = {row["upload_id"]: row["sha256"] for row in rows}
    wanted = tuple(contents) if asked.members is None else asked.members
    if strangers := unseen(tuple(contents), wanted):
        return Refusal("invalid_decision", f"The upload {strangers[0]!r} is no member of this case that is open.")
    files = {contents[each] for each in wanted}
    if asked.at_most is not None and len(wanted) > asked.at_most:
        text = f"{len(wanted)} uploads at once are decided by a lead; you may decide {asked.at_most}, or escalate."
        return Refusal("bulk_needs_lead", text)
    return [upload_id for upload_id, sha256 in contents.items() if sha256 in files]


async def _overtaken(connection: Connection, case: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a case, whose row is locked, has gone on since a decision. A second one belongs to its first: once
    another first one was made, be it undone, nothing knows any more which events the two released.
    """
    if row["part"] == "second" and case["second_decision"] != row["id"]:
        return True
    return await (await connection.execute(_LATER, row)).fetchone() is not None


def _columns(word: Word) -> dict[str, Any]:
    return {
        "decision": word.decision,
        "reason_codes": list(word.reason_codes),
        "comment": None if word.comment is None else storable(word.comment),
        "mask_key": word.mask_key,
        "mask_of": word.mask_of,
    }


async def _one(connection: Connection, decision_id: str) -> Decided:
    row = await (await connection.execute(f"{DECISION} where id = %(id)s", {"id": decision_id})).fetchone()
    assert row is not None
    return decided_of(row)
