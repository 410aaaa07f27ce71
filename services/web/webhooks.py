"""Webhooks over HTTP: register, pause, rotate, test; what became of deliveries, and dead letters sent once more.

In: requests of admins, for tenants that they may see. Out: JSON (`webhook_shapes.py`). `webhook_pages.py` has the same
for people.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from services.clients.delivery_log import DeliveryLog, DeliveryState
from services.clients.webhooks import NewWebhook, Webhook, Webhooks
from services.core.access import Person, Role
from services.opening import open_vault, open_webhook_fetcher
from services.web.access import Who, at_least, seen
from services.web.idempotency import OncePerKey
from services.web.paging import Limit, Place, cut, following, moment_and_id, number, read_place, write_place
from services.web.parts import Options, Parts
from services.web.problems import Refused, problems
from services.web.webhook_shapes import (
    AttemptPage,
    DeliveryPage,
    Pinged,
    Redriven,
    RedriveWanted,
    SecretMade,
    WebhookChange,
    WebhookMade,
    WebhookPage,
    WebhookShown,
    WebhookWanted,
    shown,
)
from services.webhooks.desk import Desk

OneTenant = Annotated[str | None, Query(max_length=100, description="Only this tenant's.")]


def desk_of(parts: Parts, options: Options) -> Desk:
    """Where webhooks are registered, as the settings say."""
    settings = options.webhooks
    fetcher = open_webhook_fetcher(settings)
    return Desk(
        parts.database,
        audit=parts.audit,
        vault=open_vault(settings),
        fetcher=fetcher,
        old_secret_s=settings.old_secret_s,
    )


async def registered(desk: Desk, person: Person, wanted: WebhookWanted) -> WebhookMade:
    """Registers a webhook. Raises Refused (404, 503) and Rejected (url_not_allowed)."""
    tenant = seen(person, wanted.tenant)
    require_keys(desk)
    decisions = None if wanted.decisions is None else tuple(dict.fromkeys(wanted.decisions))
    new = NewWebhook(tenant, wanted.url, tuple(dict.fromkeys(wanted.events)), decisions, person.subject)
    made, secret = await desk.add(person, new)
    return WebhookMade(**shown(made).model_dump(), secret=secret)


def require_keys(desk: Desk) -> None:
    """Raises Refused (503) where no secret can be sealed."""
    if not desk.ready:
        raise Refused(503, "no_webhook_key", "PENTIMENTO_WEBHOOKS__KEYS is empty: secrets could not be kept.")


async def known(webhooks: Webhooks, person: Person, webhook_id: str) -> Webhook:
    """One webhook. Raises Refused (404) where there is none that the person may see."""
    found = [] if "\x00" in webhook_id else await webhooks.find(webhook_id=webhook_id)
    if not found or not person.sees(found[0].tenant):
        raise Refused(404, "no_webhook", f"There is no webhook {webhook_id!r}.")
    return found[0]


async def rotated(desk: Desk, person: Person, webhook: Webhook) -> SecretMade:
    """A new secret. Raises Refused (404, 503)."""
    require_keys(desk)
    made = await desk.rotate(person, webhook)
    if made is None:
        raise Refused(404, "no_webhook", f"There is no webhook {webhook.id!r} any more.")
    return SecretMade(secret=made[0], old_until=made[1])


async def pinged(desk: Desk, webhook: Webhook) -> Pinged:
    """A test event on its way. Raises Refused (409) where nothing is sent to the webhook now."""
    delivery = await desk.ping(webhook.id)
    if delivery is None:
        raise Refused(409, "not_active", f"The webhook is {webhook.state}: make it active, then test it.")
    return Pinged(delivery=delivery)


def api(parts: Parts, desk: Desk) -> APIRouter:
    """Everything below `/api/v1/webhooks`."""
    webhooks, log = Webhooks(parts.database), DeliveryLog(parts.database)
    routes = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"], dependencies=[Depends(at_least(Role.ADMIN))])
    _registry(routes, webhooks, desk)
    _history(routes, webhooks, log)
    # Not for what answers with a secret: kept answers lie in the database in the clear.
    repeatable = APIRouter(route_class=OncePerKey)
    _actions(repeatable, webhooks, desk)
    routes.include_router(repeatable)
    return routes


def _registry(routes: APIRouter, webhooks: Webhooks, desk: Desk) -> None:
    @routes.get("", summary="List webhooks", response_model_exclude_none=True)
    async def listed(
        request: Request, person: Who, tenant: OneTenant = None, limit: Limit = 50, cursor: Place = None
    ) -> WebhookPage:
        tenants = person.tenants if tenant is None else [seen(person, tenant)]
        after = None if cursor is None else read_place(cursor, moment_and_id)
        found = await webhooks.find(tenants=tenants, limit=limit + 1, after=after)
        page, place = cut(found, limit, lambda last: write_place(last.created_at.isoformat(), last.id))
        return WebhookPage(webhooks=[shown(each) for each in page], next_cursor=place, next=following(request, place))

    @routes.post("", status_code=201, summary="Register a webhook", responses=problems(409))
    async def add(person: Who, wanted: WebhookWanted) -> WebhookMade:
        """The answer holds the secret, which is shown this once."""
        return await registered(desk, person, wanted)

    @routes.get("/{webhook_id}", summary="One webhook", response_model_exclude_none=True)
    async def one(person: Who, webhook_id: str) -> WebhookShown:
        return shown(await known(webhooks, person, webhook_id))

    @routes.patch("/{webhook_id}", summary="Pause a webhook, or let it go on", response_model_exclude_none=True)
    async def change(person: Who, webhook_id: str, change: WebhookChange) -> WebhookShown:
        """While it is paused, events wait for it."""
        webhook = await known(webhooks, person, webhook_id)
        await desk.change(person, webhook, change.state)
        return shown(await known(webhooks, person, webhook_id))

    @routes.delete("/{webhook_id}", status_code=204, summary="Remove a webhook and its log")
    async def remove(person: Who, webhook_id: str) -> Response:
        await desk.remove(person, await known(webhooks, person, webhook_id))
        return Response(status_code=204)

    @routes.post("/{webhook_id}/rotate", summary="Give a webhook a new secret")
    async def rotate(person: Who, webhook_id: str) -> SecretMade:
        """For a while deliveries are signed with both, so that the receiver can change in its own time."""
        return await rotated(desk, person, await known(webhooks, person, webhook_id))


def _history(routes: APIRouter, webhooks: Webhooks, log: DeliveryLog) -> None:
    @routes.get("/{webhook_id}/deliveries", summary="A webhook's deliveries", response_model_exclude_none=True)
    async def deliveries(
        request: Request,
        person: Who,
        webhook_id: str,
        state: Annotated[DeliveryState | None, Query(description="`dead` are the dead letters.")] = None,
        limit: Limit = 50,
        cursor: Place = None,
    ) -> DeliveryPage:
        webhook = await known(webhooks, person, webhook_id)
        found = await log.deliveries(webhook.id, state=state, limit=limit + 1, before=_number(cursor))
        page, place = cut(found, limit, lambda last: write_place(last.id))
        return DeliveryPage(deliveries=page, next_cursor=place, next=following(request, place))

    @routes.get("/{webhook_id}/attempts", summary="The log of a webhook", response_model_exclude_none=True)
    async def attempts(
        request: Request, person: Who, webhook_id: str, limit: Limit = 50, cursor: Place = None
    ) -> AttemptPage:
        """Every try with its status and duration; bodies are not kept."""
        webhook = await known(webhooks, person, webhook_id)
        found = await log.attempts(webhook.id, limit=limit + 1, before=_number(cursor))
        page, place = cut(found, limit, lambda last: write_place(last.id))
        return AttemptPage(attempts=page, next_cursor=place, next=following(request, place))


def _actions(routes: APIRouter, webhooks: Webhooks, desk: Desk) -> None:
    @routes.post("/{webhook_id}/test", status_code=202, summary="Send a test event", responses=problems(409))
    async def test(person: Who, webhook_id: str) -> Pinged:
        """It goes the way of every event; the log says what was answered."""
        return await pinged(desk, await known(webhooks, person, webhook_id))

    @routes.post("/{webhook_id}/redrive", summary="Send dead letters once more", responses=problems(409))
    async def redrive(person: Who, webhook_id: str, wanted: RedriveWanted) -> Redriven:
        webhook = await known(webhooks, person, webhook_id)
        return Redriven(redriven=await desk.redrive(person, webhook, wanted.deliveries))


def _number(cursor: str | None) -> int | None:
    return None if cursor is None else read_place(cursor, number)
