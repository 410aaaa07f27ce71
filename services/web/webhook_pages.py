"""Webhooks for people: `/admin/webhooks` lists and registers, `/admin/webhooks/ID` shows one with its log and its dead
letters.

In: forms of admins. Out: pages; a secret is on the page that follows its making, and on no other.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from pydantic import Field, ValidationError
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.clients.delivery_log import DeliveryLog
from services.clients.webhooks import Webhook, Webhooks
from services.core.access import Role
from services.core.events import Decision
from services.core.webhooks import EventKind
from services.web.access import Who, at_least
from services.web.pages import render
from services.web.paging import Place, cut, moment_and_id, number, read_place, write_place
from services.web.parts import Options, Parts
from services.web.problems import Refused
from services.web.webhook_shapes import WebhookWanted
from services.web.webhooks import known, pinged, registered, rotated
from services.webhooks.desk import Desk

PAGE = 50
KINDS = {EventKind.VERDICT: "Verdicts", EventKind.REVIEW: "Moderators’ decisions"}
STATES = {"active": "Active", "paused": "Paused", "disabled": "Disabled: it answered 410"}

Words = Annotated[str, Form(max_length=2048)]
Numbers = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]] | None, Form()]
Chosen = Annotated[list[str] | None, Form()]


def router(parts: Parts, options: Options, desk: Desk) -> APIRouter:
    """The two pages and what their forms do."""
    routes = APIRouter(
        prefix="/admin/webhooks",
        default_response_class=HTMLResponse,
        include_in_schema=False,
        dependencies=[Depends(at_least(Role.ADMIN))],
    )
    webhooks, log = Webhooks(parts.database), DeliveryLog(parts.database)

    @routes.get("")
    async def listed(person: Who, cursor: Place = None) -> Response:
        after = None if cursor is None else read_place(cursor, moment_and_id)
        found = await webhooks.find(tenants=person.tenants, limit=PAGE + 1, after=after)
        page, place = cut(found, PAGE, lambda last: write_place(last.created_at.isoformat(), last.id))
        values = {"webhooks": page, "next_cursor": place, "ready": desk.ready, "hosts": options.webhooks.allowed_hosts}
        return render("webhooks.html", {**values, "KINDS": KINDS, "STATES": STATES, "DECIDED": list(Decision)})

    @routes.post("")
    async def add(
        person: Who, tenant: Words = "", url: Words = "", events: Chosen = None, decisions: Chosen = None
    ) -> Response:
        made = await registered(desk, person, _wanted(tenant, url, events, decisions))
        return await shown_with(await known(webhooks, person, made.id), secret=made.secret, status=201)

    @routes.get("/{webhook_id}")
    async def one(person: Who, webhook_id: str, cursor: Place = None) -> Response:
        return await shown_with(await known(webhooks, person, webhook_id), cursor=cursor)

    @routes.post("/{webhook_id}/rotate")
    async def rotate(person: Who, webhook_id: str) -> Response:
        webhook = await known(webhooks, person, webhook_id)
        made = await rotated(desk, person, webhook)
        return await shown_with(await known(webhooks, person, webhook.id), secret=made.secret)

    @routes.post("/{webhook_id}/test")
    async def test(person: Who, webhook_id: str) -> Response:
        webhook = await known(webhooks, person, webhook_id)
        await pinged(desk, webhook)
        return _back(webhook)

    @routes.post("/{webhook_id}/pause")
    async def pause(person: Who, webhook_id: str) -> Response:
        webhook = await known(webhooks, person, webhook_id)
        await desk.change(person, webhook, "paused")
        return _back(webhook)

    @routes.post("/{webhook_id}/resume")
    async def resume(person: Who, webhook_id: str) -> Response:
        webhook = await known(webhooks, person, webhook_id)
        await desk.change(person, webhook, "active")
        return _back(webhook)

    @routes.post("/{webhook_id}/redrive")
    async def redrive(person: Who, webhook_id: str, delivery: Numbers = None) -> Response:
        webhook = await known(webhooks, person, webhook_id)
        await desk.redrive(person, webhook, delivery)
        return _back(webhook)

    @routes.post("/{webhook_id}/remove")
    async def remove(person: Who, webhook_id: str) -> Response:
        await desk.remove(person, await known(webhooks, person, webhook_id))
        return RedirectResponse("/admin/webhooks", 303)

    async def shown_with(
        webhook: Webhook, *, secret: str | None = None, cursor: str | None = None, status: int = 200
    ) -> Response:
        before = None if cursor is None else read_place(cursor, number)
        found = await log.attempts(webhook.id, limit=PAGE + 1, before=before)
        attempts, place = cut(found, PAGE, lambda last: write_place(last.id))
        values = {
            "webhook": webhook,
            "secret": secret,
            "attempts": attempts,
            "next_cursor": place,
            "dead": await log.deliveries(webhook.id, state="dead", limit=PAGE),
        }
        return render("webhook.html", {**values, "KINDS": KINDS, "STATES": STATES}, status=status)

    return routes


def _back(webhook: Webhook) -> Response:
    return RedirectResponse(f"/admin/webhooks/{webhook.id}", 303)


def _wanted(tenant: str, url: str, events: list[str] | None, decisions: list[str] | None) -> WebhookWanted:
    given = {"tenant": tenant.strip() or "default", "url": url.strip(), "events": events or [], "decisions": decisions}
    try:
        return WebhookWanted.model_validate(given)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise Refused(422, "invalid_form", faults) from error
