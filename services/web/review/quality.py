"""How good reviews are, for leads: figures about the queue and about moderators, and cases with a known answer.

In: a span of days; a settled upload and its answer. Out: figures; honeypots. Moderators see none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from services.clients.review_honeypots import Honeypot
from services.clients.review_rows import Refusal, is_id
from services.clients.review_stats import Twice, Work
from services.core.access import Person, Role
from services.core.events import Identifier
from services.core.review.cases import Kind
from services.core.review.honeypots import Unusable, honeypot_of
from services.core.review.quality import agreement, by_pair
from services.web.access import at_least, seen
from services.web.problems import Refused
from services.web.review.desk import Desk, accepted, refused
from services.web.review.models import Body

Lead = Annotated[Person, Depends(at_least(Role.LEAD))]
Tenant = Annotated[str | None, Query(max_length=100)]


class QueueFigures(BaseModel):
    """Open cases of a tenant and kind."""

    tenant: str
    kind: Kind
    open: int
    oldest_at: datetime


class ModeratorFigures(BaseModel):
    """What a moderator did. `honeypot_accuracy` 0..1, null where they had none."""

    person: str
    name: str
    decided: int
    undone: int
    skipped: int
    escalated: int
    minutes: float
    median_s: float | None
    honeypots: int
    honeypots_right: int
    honeypot_accuracy: float | None

    @classmethod
    def of(cls, work: Work) -> ModeratorFigures:
        """The figures, rounded for people."""
        plain = {name: getattr(work, name) for name in Work.__slots__ if name not in ("minutes", "median_s")}
        accuracy = work.honeypots_right / work.honeypots if work.honeypots else None
        median = None if work.median_s is None else round(work.median_s, 1)
        return cls(**plain, minutes=round(work.minutes, 1), median_s=median, honeypot_accuracy=accuracy)


class PairFigures(BaseModel):
    """How often two moderators agree."""

    first: str
    second: str
    cases: int
    percent: float
    kappa: float | None


class KindFigures(BaseModel):
    """How often two moderators agree on a kind of case."""

    kind: Kind
    cases: int
    percent: float
    kappa: float | None


class Figures(BaseModel):
    """Everything about a span of days, and what is open now."""

    since: datetime
    open: int
    escalated: int
    oldest_at: datetime | None
    queues: list[QueueFigures]
    moderators: list[ModeratorFigures]
    agreement: list[PairFigures]
    agreement_by_kind: list[KindFigures]


class HoneypotShown(BaseModel):
    """A known answer. It was `shown` to so many people, and so many were `right`."""

    id: str
    tenant: str
    upload_id: str
    revision: int
    answer: Literal["manipulated", "no_evidence"]
    by: str
    added_at: datetime
    retired: bool
    shown: int
    right: int

    @classmethod
    def of(cls, honeypot: Honeypot) -> HoneypotShown:
        """The honeypot."""
        names = [name for name in cls.model_fields if name not in ("by", "retired")]
        plain = {name: getattr(honeypot, name) for name in names}
        return cls(**plain, by=honeypot.added_by, retired=honeypot.retired_at is not None)


class HoneypotList(BaseModel):
    """All of them."""

    honeypots: list[HoneypotShown]


class NewHoneypot(Body):
    """An upload whose verdict is settled, and what is right."""

    tenant: str
    upload_id: Identifier
    answer: Literal["manipulated", "no_evidence"]


def router(desk: Desk) -> APIRouter:
    """Routes for leads."""
    routes = APIRouter()

    @routes.get("/stats")
    async def stats(person: Lead, days: Annotated[int, Query(ge=1, le=365)] = 30, tenant: Tenant = None) -> Figures:
        of = None if not tenant else seen(person, tenant)
        return await figures(desk, person, of, since=desk.now() - timedelta(days=days))

    @routes.get("/honeypots")
    async def honeypots(person: Lead, tenant: Tenant = None) -> HoneypotList:
        found = await desk.honeypots.list(person, None if not tenant else seen(person, tenant))
        return HoneypotList(honeypots=[HoneypotShown.of(each) for each in found])

    @routes.post("/honeypots", status_code=201)
    async def add(person: Lead, new: NewHoneypot) -> HoneypotShown:
        revisions = await desk.verdicts.get(seen(person, new.tenant), new.upload_id)
        if not revisions:
            raise Refused(404, "no_verdict", f"There is no verdict for upload {new.upload_id!r} of {new.tenant!r}.")
        usable = honeypot_of(revisions, desk.policy)
        if isinstance(usable, Unusable):
            raise refused(Refusal(usable.code, usable.text))
        added = accepted(await desk.honeypots.add(person, usable.verdict, usable.kind, new.answer, now=desk.now()))
        await desk.audit.record(
            person, "honeypot_added", tenant=new.tenant, upload_id=new.upload_id, details={"honeypot": added.id}
        )
        return HoneypotShown.of(added)

    @routes.post("/honeypots/{honeypot_id}/retire", status_code=204)
    async def retire(person: Lead, honeypot_id: str) -> Response:
        if not is_id(honeypot_id) or not await desk.honeypots.retire(person, honeypot_id, now=desk.now()):
            raise Refused(404, "no_honeypot", "There is no such honeypot.")
        await desk.audit.record(person, "honeypot_retired", details={"honeypot": honeypot_id})
        return Response(status_code=204)

    return routes


async def figures(desk: Desk, person: Person, tenant: str | None, *, since: datetime) -> Figures:
    """What leads look at."""
    waiting = await desk.stats.waiting(person, tenant)
    twice = await desk.stats.decided_twice(person, tenant, since=since)
    return Figures(
        since=since,
        open=sum(each.open for each in waiting),
        escalated=sum(each.escalated for each in waiting),
        oldest_at=min((each.oldest_at for each in waiting), default=None),
        queues=[
            QueueFigures(tenant=each.tenant, kind=each.kind, open=each.open, oldest_at=each.oldest_at)
            for each in waiting
        ],
        moderators=[ModeratorFigures.of(each) for each in await desk.stats.work(person, tenant, since=since)],
        agreement=_by_pair(twice),
        agreement_by_kind=_by_kind(twice),
    )


def _by_pair(twice: Sequence[Twice]) -> list[PairFigures]:
    found = []
    for (first, second), answers in sorted(by_pair((each.first, each.second) for each in twice).items()):
        how = agreement(answers)
        found.append(PairFigures(first=first, second=second, cases=how.cases, percent=how.percent, kappa=how.kappa))
    return found


def _by_kind(twice: Sequence[Twice]) -> list[KindFigures]:
    found = []
    for kind in dict.fromkeys(each.kind for each in twice):
        how = agreement([(each.first.decision, each.second.decision) for each in twice if each.kind == kind])
        found.append(KindFigures(kind=kind, cases=how.cases, percent=how.percent, kappa=how.kappa))
    return found
