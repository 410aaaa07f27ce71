"""What is to be sent to webhooks: an outbox that is filled where verdicts and reviews are projected.

In: events, in the transaction that projects them (`announce`). Out: deliveries, each to one sender at a time, for as
long as its lease; a sender that dies leaves them to the others. Deliveries about one upload go out in order, those of
one webhook at most so many at once. `delivery_log.py` shows what became of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.database import Connection, Database
from services.core.events import ReviewDecided, VerdictReached
from services.core.webhooks import Announced, Attempt, Delivered, EventKind, GivenUp, Later, Outcome

PRUNED_AT_ONCE = 1000  # with their tries; a day's worth at once would outlast a statement's deadline


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that was claimed. `event` None: what it refers to is not there any more. `sealed` are the secrets that
    are valid, the newest first; `attempts` counts this one; `since`: when it was queued, redriven, or let go on.
    """

    id: int
    webhook: str
    url: str
    sealed: tuple[str, ...]
    failures: int
    attempts: int
    since: datetime
    event: Announced | None


async def announce(connection: Connection, event: VerdictReached | ReviewDecided) -> None:
    """Queue an event for every webhook that wants it, once: in the caller's transaction, all or nothing.

    What happened before a webhook was registered is not for it, however late it is projected.
    """
    match event:
        case VerdictReached():
            kind, reference, happened_at = EventKind.VERDICT, str(event.revision), event.judged_at
        case ReviewDecided():
            kind, reference, happened_at = EventKind.REVIEW, event.decision_id, event.decided_at
    row = {
        "tenant": event.tenant,
        "kind": kind.value,
        "decision": event.decision.value,
        "event_id": event.event_id(),
        "subject": event.upload_id,
        "reference": reference,
        "happened_at": happened_at,
    }
    await connection.execute(_ANNOUNCE, row)


class Deliveries:
    """The senders' side of the outbox. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, *, at_most: int, per_webhook: int, lease_s: float) -> list[Delivery]:
        """Deliveries of one webhook that are due, to be settled within `lease_s`; webhooks take turns. Empty where none
        is due."""
        query = {"at_most": at_most, "per_webhook": per_webhook, "lease_s": lease_s}
        async with self._database.connection() as connection, connection.transaction():
            turn = await (await connection.execute(_WHOSE_TURN, query)).fetchone()
            if turn is None:
                return []
            # The row is locked: a second statement sees what another sender claimed until now, the first did not.
            query["webhook"] = turn["id"]
            await connection.execute(_SERVED, query)
            ids = [row["id"] for row in await (await connection.execute(_CLAIM, query)).fetchall()]
            rows = await (await connection.execute(_LOAD, {"ids": ids})).fetchall()
        return [_delivery(row) for row in rows]

    async def settle(self, delivery: Delivery, attempt: Attempt, outcome: Outcome) -> None:
        """Log the try and do what follows from it. A delivery that somebody else has meanwhile taken over is only
        settled by being delivered.
        """
        row = {
            "id": delivery.id,
            "webhook": delivery.webhook,
            "attempts": delivery.attempts,
            "status": attempt.status,
            "error": attempt.error,
            "duration_ms": attempt.duration_ms,
        }
        async with self._database.connection() as connection, connection.transaction():
            # Always the webhook before its deliveries, as `claim` does: two settlements never wait for each other.
            match outcome:
                case Delivered():
                    await connection.execute(_WORKS, row)
                    await connection.execute(_DELIVERED, row)
                case Later(after_s=after_s, hold_s=hold_s):
                    await connection.execute(_FAILS, row | {"hold_s": hold_s})
                    await connection.execute(_LATER, row | {"after_s": after_s})
                case GivenUp(reason=reason, gone=gone):
                    await connection.execute(_DISABLE if gone else _FAILS, row | {"hold_s": 0.0})
                    await connection.execute(_ALL_DEAD if gone else _DEAD, row | {"reason": reason})
            await connection.execute(_LOG, row)

    async def waiting(self) -> tuple[int, int]:
        """How many are queued, and how many are dead letters."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        return (row["queued"], row["dead"]) if row else (0, 0)

    async def prune(self, *, keep_s: float, at_once: int = PRUNED_AT_ONCE) -> int:
        """Forget deliveries that were settled so long ago, dead letters too, with their log; in one statement at most
        `at_once`. How many.
        """
        pruned, query = 0, {"keep_s": keep_s, "limit": at_once}
        while True:
            async with self._database.connection() as connection:
                count = (await connection.execute(_PRUNE, query)).rowcount
            pruned += count
            if count < at_once:
                return pruned


# `for key share`: a webhook that is being removed is waited for and then passed over, not tripped over.
_ANNOUNCE = """
insert into webhook_delivery (webhook, kind, event_id, subject, reference)
select id, %(kind)s, %(event_id)s, %(subject)s, %(reference)s from webhook
where tenant = %(tenant)s and state <> 'disabled' and %(kind)s = any(kinds)
    and (decisions is null or %(decision)s = any(decisions)) and created_at <= %(happened_at)s
for key share
on conflict do nothing
"""
# Scalar subqueries, row by row in the order of an index until there are enough: `exists` would be answered by reading
# all that waits, which may be a day's verdicts for a receiver that is down.
_CLAIMABLE = """
due.state = 'queued' and due.due_at <= now() and due.leased_until <= now() and due.id = (
    select min(before.id) from webhook_delivery as before
    where before.webhook = due.webhook and before.subject = due.subject and before.state = 'queued'
)
"""
_LEASED = "(select count(*) from webhook_delivery where webhook = {} and state = 'queued' and leased_until > now())"
_WHOSE_TURN = f"""
select id from webhook
where state = 'active' and wait_until <= now() and {_LEASED.format("webhook.id")} < %(per_webhook)s
    and (
        select due.id from webhook_delivery as due where due.webhook = webhook.id and {_CLAIMABLE}
        order by due.due_at, due.id limit 1
    ) is not null
order by served_at, id limit 1 for no key update skip locked
"""
_SERVED = "update webhook set served_at = clock_timestamp() where id = %(webhook)s"
_CLAIM = f"""
update webhook_delivery set attempts = attempts + 1, leased_until = now() + make_interval(secs => %(lease_s)s)
where id = any(array(
    select due.id from webhook_delivery as due where due.webhook = %(webhook)s and {_CLAIMABLE}
    order by due.due_at, due.id
    limit least(%(at_most)s, greatest(0, %(per_webhook)s - {_LEASED.format("%(webhook)s")}))
))
returning id
"""
_LOAD = """
select webhook_delivery.*, webhook.url, webhook.tenant, webhook.failures, webhook.secret,
    case when webhook.old_until > now() then webhook.old_secret end as old_secret,
    case kind
        when 'verdict' then (
            select event from verdict_history where tenant = webhook.tenant and upload_id = subject
                and revision = case when kind = 'verdict' then reference::integer end
        )
        when 'review' then (select event from review where tenant = webhook.tenant and decision_id = reference)
        else json_build_object('webhook', webhook.id)::text
    end as event
from webhook_delivery join webhook on webhook.id = webhook where webhook_delivery.id = any(%(ids)s)
order by webhook_delivery.due_at, webhook_delivery.id
"""
_MINE = "id = %(id)s and state = 'queued' and attempts = %(attempts)s"
_DELIVERED = """
update webhook_delivery set state = 'delivered', reason = null, settled_at = now() where id = %(id)s
"""
_LATER = f"""
update webhook_delivery set due_at = now() + make_interval(secs => %(after_s)s), leased_until = 'epoch'
where {_MINE}
"""
_DEAD = f"update webhook_delivery set state = 'dead', reason = %(reason)s, settled_at = now() where {_MINE}"
_ALL_DEAD = """
update webhook_delivery set state = 'dead', reason = %(reason)s, settled_at = now()
where webhook = %(webhook)s and state = 'queued'
"""
_WORKS = "update webhook set failures = 0, wait_until = 'epoch' where id = %(webhook)s and failures > 0"
_FAILS = """
update webhook set failures = failures + 1,
    wait_until = greatest(wait_until, now() + make_interval(secs => %(hold_s)s))
where id = %(webhook)s
"""
_DISABLE = "update webhook set state = 'disabled' where id = %(webhook)s"
_LOG = """
insert into webhook_attempt (webhook, delivery, status, error, duration_ms)
select webhook, id, %(status)s, %(error)s, %(duration_ms)s from webhook_delivery where id = %(id)s
"""
# Each counts a partial index: what was delivered, which is nearly all there is, is not looked at.
_WAITING = """
select (select count(*) from webhook_delivery where state = 'queued') as queued,
       (select count(*) from webhook_delivery where state = 'dead') as dead
"""
_PRUNE = """
delete from webhook_delivery where id = any(array(
    select id from webhook_delivery
    where state <> 'queued' and settled_at < now() - make_interval(secs => %(keep_s)s)
    order by settled_at limit %(limit)s for update skip locked
))
"""


def _delivery(row: dict[str, Any]) -> Delivery:
    return Delivery(
        id=row["id"],
        webhook=row["webhook"],
        url=row["url"],
        sealed=tuple(secret for secret in (row["secret"], row["old_secret"]) if secret is not None),
        failures=row["failures"],
        attempts=row["attempts"],
        since=row["since"],
        event=None if row["event"] is None else _announced(row),
    )


def _announced(row: dict[str, Any]) -> Announced:
    kind = EventKind(row["kind"])
    return Announced(
        kind=kind,
        event_id=row["event_id"],
        tenant=row["tenant"],
        subject=row["subject"],
        time=_time(kind, row),
        data=row["event"],
    )


def _time(kind: EventKind, row: dict[str, Any]) -> datetime:
    """When it happened, which only the event says."""
    match kind:
        case EventKind.VERDICT:
            return VerdictReached.model_validate_json(row["event"]).judged_at
        case EventKind.REVIEW:
            return ReviewDecided.model_validate_json(row["event"]).decided_at
        case EventKind.PING:
            queued_at: datetime = row["queued_at"]
            return queued_at
