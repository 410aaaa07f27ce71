"""Decisions: made, looked up, undone.

In: a decision on a case that somebody has before them. Out: the decision with its progress, and what became of the
case.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.clients.review_decisions import DecisionPlace, Repeated, Request
from services.clients.review_rows import Case, Decided, Refusal, is_id
from services.core.access import Person
from services.core.review.decisions import Word, fault
from services.web.idempotency import PARAMETER, REPLAYED, key_of
from services.web.review.cases import NO_MASK, mask_key_of
from services.web.review.desk import Desk, a_time, accepted, an_id, done, next_link, read_cursor, refused, write_cursor
from services.web.review.models import (
    CaseShown,
    CaseSummary,
    Decide,
    DecidedCase,
    DecisionPage,
    DecisionShown,
)
from services.web.review.queue import Cursor, Limit, Moderator

NO_DECISION = Refusal("no_decision", "There is no such decision that you may see.")
Key = Annotated[str | None, Depends(key_of)]
_KEPT = "Chosen by the client. The decision is made once; the key is kept with it."
KEYED = {"parameters": [{**PARAMETER["parameters"][0], "description": _KEPT}]}


def router(desk: Desk) -> APIRouter:
    """Routes of decisions."""
    routes = APIRouter()

    @routes.post("/cases/{case_id}/decide", openapi_extra=KEYED)
    async def decide(person: Moderator, case_id: str, asked: Decide, key: Key, response: Response) -> DecidedCase:
        case = await desk.found(person, case_id)
        outcome = await _decided(desk, person, case, asked, key)
        if isinstance(outcome, Refusal):
            raise refused(outcome)
        decided, now = outcome.decided if isinstance(outcome, Repeated) else outcome, desk.now()
        if isinstance(outcome, Repeated):
            response.headers.update(REPLAYED)
        after = await desk.found(person, case.id)
        return DecidedCase(decision=DecisionShown.of(decided, person, now), case=CaseSummary.of(after, now))

    @routes.get("/decisions")
    async def mine(person: Moderator, limit: Limit = 50, cursor: Cursor = None) -> DecisionPage:
        after = None if cursor is None else DecisionPlace(*read_cursor(cursor, a_time, an_id))
        found = await desk.decisions.mine(person, limit=limit + 1, after=after)
        last = found[limit - 1] if len(found) > limit else None
        following = None if last is None else write_cursor(last.decided_at, last.id)
        return DecisionPage(
            decisions=[DecisionShown.of(each, person, desk.now()) for each in found[:limit]],
            next_cursor=following,
            next=next_link("/decisions", following, limit=limit),
        )

    @routes.get("/decisions/{decision_id}")
    async def one(person: Moderator, decision_id: str) -> DecisionShown:
        decided = await desk.decisions.get(person, decision_id) if is_id(decision_id) else None
        if decided is None:
            raise refused(NO_DECISION)
        return DecisionShown.of(decided, person, desk.now())

    @routes.post("/decisions/{decision_id}/undo")
    async def undo(person: Moderator, decision_id: str) -> CaseShown:
        if not is_id(decision_id):
            raise refused(NO_DECISION)
        undone = accepted(await desk.decisions.undo(person, decision_id, now=desk.now()))
        # Where somebody else has the case by now it stays theirs.
        await desk.claims.take(person, undone.case_id, by_force=False, now=desk.now())
        return await desk.shown(person, undone.case_id)

    return routes


async def _decided(
    desk: Desk, person: Person, case: Case, asked: Decide, key: str | None
) -> Decided | Repeated | Refusal:
    """The decision; or the one of the same request before, by whatever rules that was taken. Raises Refused (422)."""
    digest = hashlib.sha256(f"{case.id}/{asked.model_dump_json()}".encode()).hexdigest()
    earlier = None if key is None else await desk.decisions.repeated(person, key, digest)
    if earlier is not None:
        return earlier
    request = await _request(desk, person, case, asked, key, digest)
    now = desk.now()
    undo = timedelta(seconds=desk.settings.undo_s)
    return await desk.decisions.decide(person, case.id, request, now=now, publish_at=now + undo)


async def _request(desk: Desk, person: Person, case: Case, asked: Decide, key: str | None, digest: str) -> Request:
    """A decision, checked by the policy's rules. Raises Refused (422)."""
    mask_key = None if asked.mask is None else mask_key_of(asked.mask)
    mask_of = None if mask_key is None else await desk.people.drawn_on(person, case.id, mask_key)
    if mask_key is not None and mask_of is None:
        raise refused(NO_MASK)
    word = Word(asked.decision, asked.reason_codes, asked.comment, mask_key, mask_of)
    done(None if (why := fault(word, desk.policy.review)) is None else Refusal("invalid_decision", why))
    match asked.members:
        case "shown":
            members: tuple[str, ...] | None = (case.upload_id,)
        case "all":
            members = None
        case chosen:
            members = tuple(dict.fromkeys(chosen))
    return Request(word, members, desk.at_most(person), asked.upload_id, asked.revision, key, digest)
