"""The outbox of decisions: what is due is sent, each event once and again until Kafka has it.

In: a way to deliver events. Out: events on their way, rows marked as sent. Rows are locked while they are under way,
and what another process has locked is passed over: any number of web processes can do this side by side. An event that
was sent and not marked is sent again, with the same id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.clients.database import Database
from services.clients.review_rows import word_of
from services.core.events import ReviewDecided
from services.core.review.decisions import event

AT_ONCE = 100  # events in one transaction: well within its deadline

Deliver = Callable[[Sequence[ReviewDecided]], Awaitable[None]]


class ReviewOutbox:
    """Sends decisions. Raises `Unavailable` or `Broken` only, what `deliver` raises aside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def send(self, deliver: Deliver, *, now: datetime) -> int:
        """Deliver some of what is due. How many events there were; fewer than `AT_ONCE` says that nothing is left."""
        async with self._database.connection() as connection, connection.transaction():
            rows = await (await connection.execute(_DUE, {"now": now, "limit": AT_ONCE})).fetchall()
            if not rows:
                return 0
            await deliver([_event(row) for row in rows])
            sent = {
                "decisions": [row["decision_id"] for row in rows],
                "uploads": [row["upload_id"] for row in rows],
                "now": now,
            }
            await connection.execute(_SENT, sent)
        return len(rows)

    async def waiting(self) -> tuple[int, datetime | None]:
        """How many events were not sent yet, those that can still be undone included, and when the first one is due."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        return (row["events"], row["due_at"]) if row else (0, None)


_DUE = """
select outcome.upload_id, outcome.of_revision, outcome.sha256, review_decision.*, outcome.decision_id
from review_outcome as outcome join review_decision on review_decision.id = outcome.decision_id
where outcome.sent_at is null and outcome.due_at <= %(now)s
order by outcome.due_at, outcome.decision_id, outcome.upload_id
limit %(limit)s for update of outcome skip locked
"""
_SENT = """
update review_outcome set sent_at = %(now)s
from unnest(%(decisions)s::uuid[], %(uploads)s::text[]) as sent (decision_id, upload_id)
where review_outcome.decision_id = sent.decision_id and review_outcome.upload_id = sent.upload_id
"""
_WAITING = """
select count(*) as events, min(due_at) as due_at from review_outcome where sent_at is null and due_at is not null
"""


def _event(row: Mapping[str, Any]) -> ReviewDecided:
    return event(
        word_of(row),
        str(row["decision_id"]),
        moderator=row["person"],
        tenant=row["tenant"],
        upload_id=row["upload_id"],
        sha256=row["sha256"],
        of_revision=row["of_revision"],
        decided_at=row["decided_at"],
    )
