"""What every route of the review API works with: the clients of its tables, its rules, and the audit log.

In: the opened parts and options. Out: a `Desk`. A `Refusal` of a client becomes a problem here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from services.clients.audit import Audit
from services.clients.cases import Verdicts
from services.clients.objects import Objects
from services.clients.review_cases import ReviewCases
from services.clients.review_claims import LockRules, ReviewClaims
from services.clients.review_decisions import ReviewDecisions
from services.clients.review_honeypots import ReviewHoneypots
from services.clients.review_people import ReviewPeople
from services.clients.review_queue import ReviewQueue
from services.clients.review_rows import NO_CASE, Case, Refusal, is_id
from services.clients.review_stats import ReviewStats
from services.core.access import Person, Role
from services.core.policy import Policy
from services.core.review.quality import Exposure
from services.settings import ReviewSettings
from services.web.paging import read_place, write_place
from services.web.parts import Options, Parts
from services.web.problems import Refused
from services.web.review.models import CaseShown, CaseSummary, DecisionShown, note_shown

STATUS = {
    "no_case": 404,
    "no_decision": 404,
    "escalated": 403,
    "bulk_needs_lead": 403,
    "invalid_decision": 422,
    "key_reused": 422,
}
"""Of refusals; every other one is a conflict with what somebody else, or the same person, did before."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """Clients and rules. `draw` is random, 0..1: it says when a case with a known answer comes."""

    queue: ReviewQueue
    claims: ReviewClaims
    cases: ReviewCases
    decisions: ReviewDecisions
    people: ReviewPeople
    honeypots: ReviewHoneypots
    stats: ReviewStats
    verdicts: Verdicts
    objects: Objects
    audit: Audit
    settings: ReviewSettings
    policy: Policy
    max_bytes: int
    now: Callable[[], datetime]
    draw: Callable[[], float]

    async def found(self, person: Person, case_id: str) -> Case:
        """A case that the person may see. Raises Refused (404)."""
        found = await self.queue.case(person, case_id, now=self.now()) if is_id(case_id) else None
        if found is None:
            raise refused(NO_CASE)
        return found[0]

    async def shown(self, person: Person, case_id: str) -> CaseShown:
        """A case with all that is needed to decide it. Raises Refused (404)."""
        now = self.now()
        found = await self.queue.case(person, case_id, now=now) if is_id(case_id) else None
        if found is None:
            raise refused(NO_CASE)
        case, notes = found
        history = await self.verdicts.get(case.tenant, case.upload_id)
        revisions = [each for each in history if each.revision <= case.revision]
        if not revisions:
            raise refused(NO_CASE)
        decisions = await self.decisions.of_case(person, case_id)
        return CaseShown(
            **CaseSummary.of(case, now).model_dump(),
            verdict=revisions[-1],
            revisions=revisions,
            settled_because=case.settled_because,
            notes=[note_shown(note) for note in notes],
            decisions=[DecisionShown.of(each, person, now) for each in decisions],
            bulk_limit=self.at_most(person),
        )

    async def exposure(self, person: Person) -> Exposure:
        """What a person has seen today."""
        limits = self.settings
        return await self.people.exposure(
            person,
            cases_limit=limits.cases_a_day or None,
            minutes_limit=limits.minutes_a_day or None,
            now=self.now(),
        )

    def at_most(self, person: Person) -> int | None:
        """How many uploads a person decides at once; None: any number."""
        return None if person.may(Role.LEAD) else self.settings.bulk_members


def desk(parts: Parts, options: Options, *, draw: Callable[[], float]) -> Desk:
    """The desk of a web process."""
    settings, tables = options.review, parts.database
    rules = LockRules(timedelta(seconds=settings.lock_s), timedelta(seconds=settings.skip_s))
    return Desk(
        queue=ReviewQueue(tables),
        claims=ReviewClaims(tables, rules),
        cases=ReviewCases(tables),
        decisions=ReviewDecisions(tables, second_share=settings.second_share),
        people=ReviewPeople(tables),
        honeypots=ReviewHoneypots(tables, rules),
        stats=ReviewStats(tables),
        verdicts=parts.verdicts,
        objects=parts.objects,
        audit=parts.audit,
        settings=settings,
        policy=options.policy,
        max_bytes=options.max_bytes,
        now=parts.now,
        draw=draw,
    )


def refused(refusal: Refusal) -> Refused:
    """The problem that a refusal is answered with."""
    return Refused(STATUS.get(refusal.code, 409), refusal.code, refusal.text)


def accepted(outcome: T | Refusal) -> T:
    """The outcome, where it is no refusal. Raises Refused."""
    if isinstance(outcome, Refusal):
        raise refused(outcome)
    return outcome


def done(outcome: Refusal | None) -> None:
    """Raises Refused where something was not done."""
    if outcome is not None:
        raise refused(outcome)


def write_cursor(*place: str | float | datetime) -> str:
    """A place in a list as a URL-safe word."""
    return write_place(*(each.isoformat() if isinstance(each, datetime) else each for each in place))


def read_cursor(text: str, *kinds: Callable[[Any], Any]) -> list[Any]:
    """The place in a word of `write_cursor`, each part read by its kind. Raises Refused (422) for anything else."""

    def read(*parts: Any) -> list[Any]:
        return [kind(part) for kind, part in zip(kinds, parts, strict=True)]

    return read_place(text, read)


def a_time(text: object) -> datetime:
    """A time in a cursor. Raises ValueError."""
    when = datetime.fromisoformat(str(text))
    if when.tzinfo is None:
        raise ValueError("a time without a zone")
    return when


def an_id(text: object) -> str:
    """An id in a cursor. Raises ValueError."""
    return str(UUID(str(text)))


def next_link(path: str, cursor: str | None, **query: object) -> str | None:
    """Where the next page is; None after the last one."""
    if cursor is None:
        return None
    given = {name: str(value) for name, value in query.items() if value is not None}
    return f"/api/v1/review{path}?{urlencode({**given, 'cursor': cursor})}"
