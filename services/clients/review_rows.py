"""Review cases as rows: what every client of the review tables reads in the same way.

In: rows. Out: cases, members and decisions, as one person may see them: whoever has decided a case first, of two who
are blind to each other, sees it as decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

from services.core.access import Person, Role
from services.core.policy import Reviewed
from services.core.review.cases import Kind, Standing, rank
from services.core.review.decisions import Part, Word

State = Literal["open", "decided", "settled"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something was not done. `code` is a stable slug; `text` is for a person."""

    code: str
    text: str


NO_CASE = Refusal("no_case", "There is no such case.")


@dataclass(frozen=True, slots=True)
class Lock:
    """Who has a case before them. `expired`: it can be taken."""

    by: str
    mine: bool
    until: datetime
    expired: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A case. `upload_id` and `revision` are what is shown; `members` counts uploads that are still to be decided."""

    id: str
    tenant: str
    kind: Kind
    state: State
    escalated: bool
    rank: float
    members: int
    opened_at: datetime
    upload_id: str
    revision: int
    filename: str | None
    score: float | None
    decision: str | None
    settled_because: str | None
    lock: Lock | None


@dataclass(frozen=True, slots=True)
class Member:
    """An upload of a case. `width` and `height` in pixels."""

    upload_id: str
    revision: int
    sha256: str
    width: int
    height: int
    state: State
    filename: str | None
    score: float | None
    decision: str
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision. `sent` of its `uploads` have their event; `withheld`: none will be sent as far as is known now."""

    id: str
    case_id: str
    tenant: str
    person: str
    name: str
    part: Part
    word: Word
    decided_at: datetime
    publish_at: datetime
    undone_at: datetime | None
    uploads: int
    sent: int
    withheld: bool


CASE = """
select review_case.*, shown.filename, shown.score, shown.decision from review_case
left join review_member as shown on shown.case_id = review_case.id and shown.upload_id = review_case.upload_id
"""
DECISION = """
select review_decision.*, outcomes.uploads, outcomes.sent, outcomes.withheld from review_decision
cross join lateral (
    select count(*) as uploads, count(sent_at) as sent, coalesce(bool_and(due_at is null), true) as withheld
    from review_outcome where decision_id = review_decision.id
) as outcomes
"""
# A case with a known answer is there for those who had it before them, and for nobody else.
VISIBLE = """
(%(tenants)s::text[] is null or review_case.tenant = any(%(tenants)s::text[])) and (
    honeypot is null or exists (select 1 from review_claim where case_id = review_case.id and person = %(person)s)
)
"""


def viewer(person: Person) -> dict[str, Any]:
    """What queries ask about a person."""
    return {
        "person": person.subject,
        "name": person.name,
        "lead": person.may(Role.LEAD),
        "tenants": None if person.tenants is None else sorted(person.tenants),
    }


def case_of(row: Mapping[str, Any], person: Person, now: datetime) -> Case:
    """A row of CASE, as a person sees it."""
    done = row["first_by"] == person.subject and row["state"] == "open" and not person.may(Role.LEAD)
    lock = None
    if row["locked_by"] is not None and row["state"] == "open" and not done:
        until = row["locked_until"]
        lock = Lock(row["locked_name"], row["locked_by"] == person.subject, until, until <= now)
    return Case(
        id=str(row["id"]),
        tenant=row["tenant"],
        kind=row["kind"],
        state="decided" if done else row["state"],
        escalated=row["escalated"] and not done,
        rank=row["rank"],
        members=0 if done else row["members"],
        opened_at=row["opened_at"],
        upload_id=row["upload_id"],
        revision=row["revision"],
        filename=row["filename"],
        score=row["score"],
        decision=row["decision"],
        settled_because=row["settled_because"],
        lock=lock,
    )


def member_of(row: Mapping[str, Any]) -> Member:
    """A row of review_member."""
    return Member(**{name: row[name] for name in Member.__slots__})


def word_of(row: Mapping[str, Any]) -> Word:
    """What a row of review_decision says."""
    return Word(
        cast(Reviewed, row["decision"]), tuple(row["reason_codes"]), row["comment"], row["mask_key"], row["mask_of"]
    )


def decided_of(row: Mapping[str, Any]) -> Decided:
    """A row of DECISION."""
    plain = ("tenant", "person", "name", "part", "decided_at", "publish_at", "undone_at", "uploads", "sent", "withheld")
    return Decided(
        id=str(row["id"]), case_id=str(row["case_id"]), word=word_of(row), **{name: row[name] for name in plain}
    )


def rank_of(row: Mapping[str, Any], **changes: Any) -> float:
    """The rank of a row of review_case, with what is about to change."""
    return rank(Standing(**{name: changes.get(name, row[name]) for name in Standing.__slots__}))


def is_id(text: str) -> bool:
    """Whether a text can be the id of a case or a decision."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
