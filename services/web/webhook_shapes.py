"""What webhooks look like over HTTP: what is asked for, and what is answered.

In: JSON of requests. Out: JSON of answers. A secret is in the two that are made for it and nowhere else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from services.clients.delivery_log import SeenAttempt, SeenDelivery
from services.clients.webhooks import Webhook
from services.core.events import Decision, Tenant
from services.core.webhooks import EventKind
from services.web.paging import Page

Kind = Literal[EventKind.VERDICT, EventKind.REVIEW]


class WebhookWanted(BaseModel):
    """A registration. Without `decisions` it is told whatever was decided."""

    tenant: Tenant = "default"
    url: Annotated[str, Field(min_length=9, max_length=2048)]
    events: Annotated[list[Kind], Field(min_length=1, max_length=2)] = [EventKind.VERDICT]
    decisions: Annotated[list[Decision] | None, Field(min_length=1, max_length=4)] = None


class WebhookChange(BaseModel):
    """`active` also lets a webhook go on that was disabled because it answered 410."""

    state: Literal["active", "paused"]


class WebhookShown(BaseModel):
    """A registered webhook. `waiting` and `dead`: deliveries. `failures`: tries that failed in a row."""

    id: str
    tenant: str
    url: str
    events: list[EventKind]
    decisions: list[Decision] | None = None
    state: Literal["active", "paused", "disabled"]
    failures: int
    waiting: int
    dead: int
    old_secret_until: datetime | None = None
    created_by: str
    created_at: datetime


class WebhookMade(WebhookShown):
    """A webhook that was registered. `secret` is shown this once."""

    secret: str


class SecretMade(BaseModel):
    """A new secret, shown this once. Deliveries carry a signature of the one before as well until `old_until`."""

    secret: str
    old_until: datetime


class WebhookPage(Page):
    """A page of webhooks, the oldest first."""

    webhooks: list[WebhookShown]


class DeliveryPage(Page):
    """A page of deliveries, those queued last first."""

    deliveries: list[SeenDelivery]


class AttemptPage(Page):
    """A page of the log, the newest try first."""

    attempts: list[SeenAttempt]


class Pinged(BaseModel):
    """The number of the test event's delivery."""

    delivery: int


class RedriveWanted(BaseModel):
    """Which dead letters; without `deliveries` all of the webhook's."""

    deliveries: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]] | None, Field(max_length=1000)] = None


class Redriven(BaseModel):
    """How many dead letters are sent once more."""

    redriven: int


def shown(webhook: Webhook) -> WebhookShown:
    """As the API shows it."""
    decisions = None if webhook.decisions is None else list(webhook.decisions)
    return WebhookShown(
        id=webhook.id,
        tenant=webhook.tenant,
        url=webhook.url,
        events=list(webhook.kinds),
        decisions=decisions,
        state=webhook.state,
        failures=webhook.failures,
        waiting=webhook.waiting,
        dead=webhook.dead,
        old_secret_until=webhook.old_secret_until,
        created_by=webhook.created_by,
        created_at=webhook.created_at,
    )
