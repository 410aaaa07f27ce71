"""The queue of cases and what comes next; and what each person sees of themselves: rules, choices, exposure.

In: filters, choices. Out: pages of the queue, the next case, locked for whoever asked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query

from services.clients.review_people import Choices
from services.clients.review_queue import CaseFilter, Place
from services.core.access import Person, Role
from services.core.review.cases import Kind
from services.core.review.quality import due
from services.web.access import at_least, seen
from services.web.review.desk import Desk, an_id, next_link, read_cursor, write_cursor
from services.web.review.models import (
    CaseSummary,
    ChoicesShown,
    Choose,
    ExposureShown,
    NextCase,
    QueuePage,
    ReasonShown,
    Rules,
    Wanted,
)

MOST = 200
Limit = Annotated[int, Query(ge=1, le=MOST)]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]
Viewer = Annotated[Person, Depends(at_least(Role.VIEWER))]
Moderator = Annotated[Person, Depends(at_least(Role.MODERATOR))]


def router(desk: Desk) -> APIRouter:
    """Their routes."""
    routes = APIRouter()

    @routes.get("/queue")
    async def queue(
        person: Moderator,
        tenant: Annotated[str | None, Query(max_length=100)] = None,
        kind: Kind | None = None,
        escalated: bool | None = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> QueuePage:
        return await _page(desk, person, _filter(person, tenant, kind, escalated), limit, cursor)

    @routes.post("/next")
    async def following(person: Moderator, wanted: Wanted) -> NextCase:
        chosen = _filter(person, wanted.tenant, wanted.kind, wanted.escalated)
        exposure = await desk.exposure(person)
        case_id = await desk.claims.held(person, chosen, now=desk.now())
        if case_id is None and exposure.used_up:
            return NextCase(case=None, why="budget_used_up", exposure=ExposureShown.of(exposure))
        case_id = case_id or await _next(desk, person, chosen)
        why: Literal["queue_empty"] | None = "queue_empty" if case_id is None else None
        case = None if case_id is None else await desk.shown(person, case_id)
        return NextCase(case=case, why=why, exposure=ExposureShown.of(await desk.exposure(person)))

    @routes.get("/exposure")
    async def exposure(person: Moderator) -> ExposureShown:
        return ExposureShown.of(await desk.exposure(person))

    @routes.get("/reasons")
    async def reasons(person: Moderator) -> Rules:
        rules, settings = desk.policy.review, desk.settings
        return Rules(
            reasons=[ReasonShown(**reason.model_dump()) for reason in rules.reasons],
            reason_required=rules.reason_required,
            undo_s=settings.undo_s,
            lock_s=settings.lock_s,
            heartbeat_s=settings.heartbeat_s,
        )

    @routes.get("/settings")
    async def choices(person: Viewer) -> ChoicesShown:
        return _complete(desk, await desk.people.choices(person))

    @routes.put("/settings")
    async def choose(person: Viewer, changes: Choose) -> ChoicesShown:
        before = await desk.people.choices(person)
        kept = {name: getattr(before, name) for name in Choices.__slots__}
        after = Choices(**{**kept, **changes.model_dump(exclude_unset=True)})
        await desk.people.choose(person, after)
        return _complete(desk, after)

    return routes


async def _page(desk: Desk, person: Person, chosen: CaseFilter, limit: int, cursor: str | None) -> QueuePage:
    now = desk.now()
    after = None if cursor is None else Place(*read_cursor(cursor, float, an_id))
    found = await desk.queue.page(person, chosen, limit=limit + 1, after=after, now=now)
    last = found[limit - 1] if len(found) > limit else None
    following = None if last is None else write_cursor(last.rank, last.id)
    waiting = await desk.queue.waiting(person, chosen)
    query: dict[str, Any] = {"tenant": chosen.tenant, "kind": chosen.kind, "limit": limit}
    if chosen.escalated is not None:
        query["escalated"] = str(chosen.escalated).lower()
    return QueuePage(
        cases=[CaseSummary.of(case, now) for case in found[:limit]],
        next_cursor=following,
        next=next_link("/queue", following, **query),
        open=waiting.open,
        more=waiting.more,
        oldest_at=waiting.oldest_at,
        mine=[CaseSummary.of(case, now) for case in await desk.queue.mine(person, now=now)],
        exposure=ExposureShown.of(await desk.exposure(person)),
    )


async def _next(desk: Desk, person: Person, chosen: CaseFilter) -> str | None:
    """A case for somebody who has none: one with a known answer where that is due, and others wait."""
    now = desk.now()
    plain = chosen.kind is None and chosen.escalated is None
    if plain and due(desk.draw(), desk.settings.honeypot_share):
        others = await desk.queue.page(person, chosen, limit=1, after=None, now=now)
        case_id = await desk.honeypots.serve(person, chosen.tenant, now=now) if others else None
        if case_id is not None:
            return case_id
    return await desk.claims.next(person, chosen, now=now)


def _filter(person: Person, tenant: str | None, kind: Kind | None, escalated: bool | None) -> CaseFilter:
    return CaseFilter(tenant=None if not tenant else seen(person, tenant), kind=kind, escalated=escalated)


def _complete(desk: Desk, choices: Choices) -> ChoicesShown:
    """Somebody's choices, where they made none the organisation's."""
    given = {name: getattr(choices, name) for name in Choices.__slots__}
    usual = {name: getattr(desk.settings, name) for name in Choices.__slots__}
    return ChoicesShown(**{name: usual[name] if value is None else value for name, value in given.items()})
