"""One case: looked at, taken, kept, given back; its members; a mask drawn for one of them.

In: a case's id. Out: the case, or what became of it. Whoever may not see a case is told that there is none.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.requests import Request

from services.clients.review_rows import Refusal
from services.core.access import Person, Role
from services.core.errors import Rejected
from services.core.events import Identifier
from services.core.intake.keys import mask_key
from services.core.review.mask import MASK_BYTES, Unfit, drawn_mask
from services.web.access import at_least
from services.web.problems import Refused
from services.web.review.desk import Desk, accepted, done, next_link, read_cursor, write_cursor
from services.web.review.models import CaseShown, Held, MaskKept, MemberPage, MemberShown, Said
from services.web.review.queue import Cursor, Limit, Moderator

Lead = Annotated[Person, Depends(at_least(Role.LEAD))]
UploadId = Annotated[Identifier | None, Query(description="A member; by default the one that is shown.")]
PNG_BODY = {
    "requestBody": {"required": True, "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
AT_ONCE = 2  # masks decoded beside each other


def router(desk: Desk) -> APIRouter:
    """Routes below `/cases/{case_id}`."""
    routes = APIRouter(prefix="/cases/{case_id}")
    _looking(routes, desk)
    _locking(routes, desk)
    _drawing(routes, desk)
    return routes


def _looking(routes: APIRouter, desk: Desk) -> None:
    @routes.get("")
    async def one(person: Moderator, case_id: str) -> CaseShown:
        return await desk.shown(person, case_id)

    @routes.get("/members")
    async def members(person: Moderator, case_id: str, limit: Limit = 50, cursor: Cursor = None) -> MemberPage:
        case = await desk.found(person, case_id)
        after = None if cursor is None else read_cursor(cursor, str)[0]
        found, total = await desk.queue.members(case.id, limit=limit + 1, after=after)
        following = write_cursor(found[limit - 1].upload_id) if len(found) > limit else None
        return MemberPage(
            members=[MemberShown.of(each) for each in found[:limit]],
            next_cursor=following,
            next=next_link(f"/cases/{case.id}/members", following, limit=limit),
            total=total,
        )


def _locking(routes: APIRouter, desk: Desk) -> None:
    async def take(person: Person, case_id: str, *, by_force: bool) -> CaseShown:
        case = await desk.found(person, case_id)
        mine = case.lock is not None and case.lock.mine and not case.lock.expired
        if not mine and (await desk.exposure(person)).used_up:
            raise Refused(409, "budget_used_up", "You have seen as much today as you are to see.")
        done(await desk.claims.take(person, case.id, by_force=by_force, now=desk.now()))
        return await desk.shown(person, case.id)

    @routes.post("/claim")
    async def claim(person: Moderator, case_id: str) -> CaseShown:
        return await take(person, case_id, by_force=False)

    @routes.post("/take-over")
    async def take_over(person: Moderator, case_id: str) -> CaseShown:
        return await take(person, case_id, by_force=person.may(Role.LEAD))

    @routes.post("/heartbeat")
    async def heartbeat(person: Moderator, case_id: str) -> Held:
        case = await desk.found(person, case_id)
        return Held(until=accepted(await desk.claims.renew(person, case.id, now=desk.now())))

    @routes.post("/release", status_code=204)
    async def release(person: Moderator, case_id: str) -> Response:
        case = await desk.found(person, case_id)
        done(await desk.claims.give_back(person, case.id, "released", now=desk.now()))
        return Response(status_code=204)

    @routes.post("/skip", status_code=204)
    async def skip(person: Moderator, case_id: str) -> Response:
        case = await desk.found(person, case_id)
        done(await desk.claims.give_back(person, case.id, "skipped", now=desk.now()))
        return Response(status_code=204)

    @routes.post("/escalate", status_code=204)
    async def escalate(person: Moderator, case_id: str, said: Said) -> Response:
        case = await desk.found(person, case_id)
        done(await desk.claims.give_back(person, case.id, "released", note=said.note, now=desk.now()))
        return Response(status_code=204)

    @routes.post("/reopen")
    async def reopen(person: Lead, case_id: str, said: Said) -> CaseShown:
        case = await desk.found(person, case_id)
        done(await desk.cases.reopen(person, case.id, said.note, now=desk.now()))
        done(await desk.claims.take(person, case.id, by_force=True, now=desk.now()))
        return await desk.shown(person, case.id)


def _drawing(routes: APIRouter, desk: Desk) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    @routes.post("/mask", status_code=201, openapi_extra=PNG_BODY)
    async def mask(request: Request, person: Moderator, case_id: str, upload_id: UploadId = None) -> MaskKept:
        case = await desk.found(person, case_id)
        member = accepted(await desk.people.drawable(person, case.id, upload_id))
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "image/png":
            raise Refused(415, "not_png", "Send the mask as the body, as image/png.")
        data = await _body(request, min(desk.max_bytes, MASK_BYTES))
        threshold = desk.policy.mask_threshold
        async with room:
            try:
                drawn = await asyncio.to_thread(
                    drawn_mask, data, width=member.width, height=member.height, threshold=threshold
                )
            except Unfit as why:
                raise Refused(422, "invalid_mask", str(why)) from why
        key = mask_key(drawn.png)
        await desk.people.drew(person, case.id, member, key, now=desk.now())  # first, so that no mask is forgotten
        await desk.objects.put(key, drawn.png, "image/png")
        return MaskKept(mask=mask_name(key), width=member.width, height=member.height, area=drawn.area)


async def _body(request: Request, limit: int) -> bytes:
    """The request's body. Raises Rejected once it is longer than `limit` bytes, whatever length it announced."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise Rejected("too_large", f"The mask has more than {limit} bytes.")
    return bytes(data)


def mask_name(key: str) -> str:
    """What a mask in the store is called outside: the SHA-256 in its key."""
    return key.rsplit("/", 1)[-1].removesuffix(".png")


def mask_key_of(name: str) -> str:
    """The key of a mask by that name."""
    return f"masks/sha256/{name[:2]}/{name}.png"


NO_MASK = Refusal("invalid_decision", "That mask was not drawn by you for this case: send it first.")
