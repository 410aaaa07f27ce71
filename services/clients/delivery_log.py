"""What became of deliveries, for the people who look after a webhook; and what they can do about it.

In: a webhook's id. Out: deliveries by state and every try, newest first, a page at a time; test events; dead letters
sent once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from services.clients.database import Database
from services.core.webhooks import EventKind

DeliveryState = Literal["queued", "delivered", "dead"]


@dataclass(frozen=True, slots=True)
class SeenDelivery:
    """A delivery as people see it. `reason`: why it is dead. `subject` is the upload's id, or `ping`."""

    id: int
    kind: EventKind
    event_id: str
    subject: str
    state: DeliveryState
    reason: str | None
    attempts: int
    status: int | None
    error: str | None
    queued_at: datetime
    due_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class SeenAttempt:
    """One try. `status` None: no answer, `error` says why."""

    id: int
    delivery: int
    kind: EventKind
    event_id: str
    subject: str
    status: int | None
    error: str | None
    duration_ms: float
    tried_at: datetime


class DeliveryLog:
    """The people's side of the outbox. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self, webhook_id: str, event_id: str) -> int | None:
        """Queue a test event. Its delivery's number; None where there is no such webhook, or it is not active."""
        query = {"webhook": webhook_id, "event_id": event_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_PING, query)).fetchone()
        return None if row is None else int(row["id"])

    async def deliveries(
        self, webhook_id: str, *, state: DeliveryState | None = None, limit: int = 50, before: int | None = None
    ) -> list[SeenDelivery]:
        """A webhook's deliveries, those that were queued last first, from below the number `before` on."""
        query = {"webhook": webhook_id, "state": state, "limit": limit, "before": before}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_DELIVERIES, query)).fetchall()
        return [_seen_delivery(row) for row in rows]

    async def attempts(self, webhook_id: str, *, limit: int = 50, before: int | None = None) -> list[SeenAttempt]:
        """A webhook's tries, newest first, from below the number `before` on."""
        query = {"webhook": webhook_id, "limit": limit, "before": before}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_ATTEMPTS, query)).fetchall()
        return [_seen_attempt(row) for row in rows]

    async def redrive(self, webhook_id: str, deliveries: Sequence[int] | None = None) -> int:
        """Send dead letters once more, with as much time as new ones have; None: all of the webhook's. How many."""
        query = {"webhook": webhook_id, "ids": None if deliveries is None else list(deliveries)}
        async with self._database.connection() as connection:
            return (await connection.execute(_REDRIVE, query)).rowcount


_PING = """
insert into webhook_delivery (webhook, kind, event_id, subject, reference)
select id, 'ping', %(event_id)s, 'ping', '' from webhook where id = %(webhook)s and state = 'active'
returning id
"""
_DELIVERIES = """
select webhook_delivery.*, last.status, last.error from webhook_delivery left join lateral (
    select status, error from webhook_attempt where delivery = webhook_delivery.id order by id desc limit 1
) as last on true
where webhook = %(webhook)s and (%(state)s::text is null or state = %(state)s)
    and (%(before)s::bigint is null or webhook_delivery.id < %(before)s)
order by webhook_delivery.id desc limit %(limit)s
"""
_ATTEMPTS = """
select webhook_attempt.*, kind, event_id, subject
from webhook_attempt join webhook_delivery on webhook_delivery.id = delivery
where webhook_attempt.webhook = %(webhook)s and (%(before)s::bigint is null or webhook_attempt.id < %(before)s)
order by webhook_attempt.id desc limit %(limit)s
"""
_REDRIVE = """
update webhook_delivery set state = 'queued', reason = null, attempts = 0, since = now(), due_at = now(),
    leased_until = 'epoch', settled_at = null
where webhook = %(webhook)s and state = 'dead' and (%(ids)s::bigint[] is null or id = any(%(ids)s))
"""


def _seen_delivery(row: dict[str, Any]) -> SeenDelivery:
    return SeenDelivery(
        id=row["id"],
        kind=EventKind(row["kind"]),
        event_id=row["event_id"],
        subject=row["subject"],
        state=row["state"],
        reason=row["reason"],
        attempts=row["attempts"],
        status=row["status"],
        error=row["error"],
        queued_at=row["queued_at"],
        due_at=row["due_at"],
        settled_at=row["settled_at"],
    )


def _seen_attempt(row: dict[str, Any]) -> SeenAttempt:
    return SeenAttempt(
        id=row["id"],
        delivery=row["delivery"],
        kind=EventKind(row["kind"]),
        event_id=row["event_id"],
        subject=row["subject"],
        status=row["status"],
        error=row["error"],
        duration_ms=row["duration_ms"],
        tried_at=row["tried_at"],
    )
