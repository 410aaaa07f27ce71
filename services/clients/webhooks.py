"""The registry of webhooks: who wants to be told of what, and where.

In: registrations and changes. Out: the same, a page at a time. Secrets come in and go out sealed (`vault.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from services.clients.database import Database
from services.core.events import Decision
from services.core.webhooks import EventKind

WebhookState = Literal["active", "paused", "disabled"]


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A registration. `decisions` None: whatever was decided."""

    tenant: str
    url: str
    kinds: tuple[EventKind, ...]
    decisions: tuple[Decision, ...] | None
    created_by: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """A registered endpoint. `disabled`: it answered 410. `failures` in a row; `waiting` and `dead` are deliveries."""

    id: str
    tenant: str
    url: str
    kinds: tuple[EventKind, ...]
    decisions: tuple[Decision, ...] | None
    state: WebhookState
    failures: int
    waiting: int
    dead: int
    old_secret_until: datetime | None
    created_by: str
    created_at: datetime


class Webhooks:
    """The registry. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, webhook_id: str, new: NewWebhook, *, sealed: str) -> None:
        """Register one."""
        row = {
            "id": webhook_id,
            "tenant": new.tenant,
            "url": new.url,
            "kinds": [kind.value for kind in new.kinds],
            "decisions": None if new.decisions is None else [decision.value for decision in new.decisions],
            "sealed": sealed,
            "by": new.created_by,
        }
        async with self._database.connection() as connection:
            await connection.execute(_ADD, row)

    async def find(
        self,
        *,
        tenants: Collection[str] | None = None,
        webhook_id: str | None = None,
        limit: int = 50,
        after: tuple[datetime, str] | None = None,
    ) -> list[Webhook]:
        """Those of these tenants (None: of all), the oldest first, from after a place on: when made, and id."""
        query = {
            "tenants": None if tenants is None else list(tenants),
            "id": webhook_id,
            "limit": limit,
            "after_at": None if after is None else after[0],
            "after_id": None if after is None else after[1],
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_FIND, query)).fetchall()
        return [_webhook(row) for row in rows]

    async def change(self, webhook_id: str, state: Literal["active", "paused"]) -> bool:
        """Pause one, or let it go on at once, also where it was disabled. What waited through a pause has as much time
        as what is new. Whether there is such a webhook.
        """
        query = {"id": webhook_id, "state": state}
        async with self._database.connection() as connection, connection.transaction():
            was = await (await connection.execute(_WAS, query)).fetchone()
            if was is None:
                return False
            await connection.execute(_CHANGE, query)
            if (was["state"], state) == ("paused", "active"):
                await connection.execute(_YOUNG_AGAIN, query)
        return True

    async def rotate(self, webhook_id: str, *, sealed: str, old_for_s: float) -> datetime | None:
        """Give it a new secret; the one it had stays valid beside it until the time that is returned. None where there
        is no such webhook.
        """
        query = {"id": webhook_id, "sealed": sealed, "old_for_s": old_for_s}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ROTATE, query)).fetchone()
        return None if row is None else row["old_until"]

    async def remove(self, webhook_id: str) -> bool:
        """Forget it, what waits for it, and its log. Whether there was one."""
        async with self._database.connection() as connection:
            return (await connection.execute(_REMOVE, {"id": webhook_id})).rowcount > 0


_ADD = """
insert into webhook (id, tenant, url, kinds, decisions, secret, created_by)
values (%(id)s, %(tenant)s, %(url)s, %(kinds)s, %(decisions)s, %(sealed)s, %(by)s)
"""
_FIND = """
select *, case when old_until > now() then old_until end as old_secret_until,
    (select count(*) from webhook_delivery where webhook = webhook.id and state = 'queued') as waiting,
    (select count(*) from webhook_delivery where webhook = webhook.id and state = 'dead') as dead
from webhook
where (%(tenants)s::text[] is null or tenant = any(%(tenants)s)) and (%(id)s::text is null or id = %(id)s)
    and (%(after_at)s::timestamptz is null or (created_at, id) > (%(after_at)s, %(after_id)s))
order by created_at, id limit %(limit)s
"""
_WAS = "select state from webhook where id = %(id)s for no key update"
_CHANGE = """
update webhook set state = %(state)s, failures = 0, wait_until = 'epoch' where id = %(id)s
"""
_YOUNG_AGAIN = "update webhook_delivery set since = now() where webhook = %(id)s and state = 'queued'"
_ROTATE = """
update webhook set old_secret = secret, old_until = now() + make_interval(secs => %(old_for_s)s), secret = %(sealed)s
where id = %(id)s returning old_until
"""
_REMOVE = "delete from webhook where id = %(id)s"


def _webhook(row: dict[str, Any]) -> Webhook:
    decisions = row["decisions"]
    return Webhook(
        id=row["id"],
        tenant=row["tenant"],
        url=row["url"],
        kinds=tuple(EventKind(kind) for kind in row["kinds"]),
        decisions=None if decisions is None else tuple(Decision(each) for each in decisions),
        state=row["state"],
        failures=row["failures"],
        waiting=row["waiting"],
        dead=row["dead"],
        old_secret_until=row["old_secret_until"],
        created_by=row["created_by"],
        created_at=row["created_at"],
    )
