"""The audit log: who saw which picture, signed in, decided, changed. Append-only; the table itself refuses the rest.

In: a person and what they did. Out: entries, newest first. `record` returns once the entry is stored, and raises where
it cannot be, so that what is not written down does not happen. Entries that come at once share a transaction: a page
of thumbnails costs a few round trips, not one a picture, and nothing waits in memory that anybody was told of.

An entry names an upload through `audit_upload`. An erasure removes that row and leaves the entry: that somebody saw a
picture stays, which one it was is gone. So `details` never hold an upload's id, a hash, a key or a file's name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from services.clients.database import Connection, Database, storable
from services.core.access import Person

TOGETHER = 200  # entries of one transaction


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that somebody did. `upload_id` None: it is about no upload, or the picture was erased."""

    id: int
    at: datetime
    subject: str
    name: str
    action: str
    tenant: str | None
    upload_id: str | None
    details: dict[str, Any]

    def cells(self) -> tuple[str | None, ...]:
        """The values of `COLUMNS`, as text."""
        when, said = self.at.astimezone(UTC).isoformat(), json.dumps(self.details, ensure_ascii=False)
        return (str(self.id), when, self.subject, self.name, self.action, self.tenant, self.upload_id, said)


COLUMNS = ("id", "at", "subject", "name", "action", "tenant", "upload_id", "details")


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to list. None asks for all. `tenants` leaves out what belongs to none, such as sign-ins."""

    subject: str | None = None
    action: str | None = None
    tenant: str | None = None
    upload_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tenants: tuple[str, ...] | None = None


@dataclass(slots=True)
class _Waiting:
    row: dict[str, Any]
    stored: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Audit:
    """One a process, so that entries can share transactions. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def record(
        self,
        person: Person,
        action: str,
        *,
        tenant: str | None = None,
        upload_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Store an entry. `action`: a word in the past tense, such as `picture_viewed`."""
        waiting = _Waiting(_row(person, action, tenant=tenant, upload_id=upload_id, details=details))
        self._waiting.append(waiting)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await waiting.stored

    async def find(self, chosen: AuditFilter, *, limit: int = 100, before: int | None = None) -> list[Entry]:
        """The entries that fit, newest first, from after the entry with the id `before` on."""
        query = {name: getattr(chosen, name) for name in AuditFilter.__dataclass_fields__}
        query |= {"before": before, "limit": limit, "tenants": None if chosen.tenants is None else [*chosen.tenants]}
        asked = [condition for name, condition in _CONDITIONS.items() if query[name] is not None]
        statement = _FIND.format(where=f"where {' and '.join(asked)}" if asked else "")
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query)).fetchall()
        return [Entry(**row) for row in rows]

    async def _write(self) -> None:
        """Store what waits, and what has come meanwhile, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            try:
                await self._store([each.row for each in batch])
            except Exception as error:  # whatever it was: nobody may wait for ever for what is not stored
                for each in batch:
                    if not each.stored.done():
                        each.stored.set_exception(error)
            else:
                for each in batch:
                    if not each.stored.done():  # whoever waited may have gone
                        each.stored.set_result(None)

    async def _store(self, rows: Sequence[dict[str, Any]]) -> None:
        async with self._database.connection() as connection, connection.transaction():
            await _insert(connection, rows)


async def record_with(
    connection: Connection,
    person: Person,
    action: str,
    *,
    tenant: str,
    upload_id: str | None = None,
    details: Mapping[str, Any],
) -> None:
    """Store an entry in the transaction that does what it tells of: both are there, or neither."""
    await _insert(connection, [_row(person, action, tenant=tenant, upload_id=upload_id, details=details)])


_COLUMNS = ("subject", "name", "action", "tenant", "upload_id", "details")
# Sorted, so that two processes that name the same uploads do not wait for each other.
_NAME = """
insert into audit_upload (tenant, upload_id)
select * from unnest(%(tenants)s::text[], %(uploads)s::text[]) on conflict do nothing
"""
_STORE = """
insert into audit (subject, name, action, tenant, upload, details)
select subject, name, action, asked.tenant, audit_upload.id, details
from unnest(%(subject)s::text[], %(name)s::text[], %(action)s::text[], %(tenant)s::text[], %(upload_id)s::text[],
            %(details)s::jsonb[])
     with ordinality as asked (subject, name, action, tenant, upload_id, details, place)
left join audit_upload on audit_upload.tenant = asked.tenant and audit_upload.upload_id = asked.upload_id
order by place
"""
_CONDITIONS = {
    "subject": "audit.subject = %(subject)s",
    "action": "audit.action = %(action)s",
    "tenant": "audit.tenant = %(tenant)s",
    "upload_id": "audit.upload in (select id from audit_upload where upload_id = %(upload_id)s)",
    "since": "audit.at >= %(since)s",
    "until": "audit.at < %(until)s",
    "tenants": "audit.tenant = any(%(tenants)s)",
    "before": "audit.id < %(before)s",
}
_FIND = """
select audit.id, at, subject, name, action, audit.tenant, upload_id, details
from audit left join audit_upload on audit_upload.id = audit.upload
{where} order by audit.id desc limit %(limit)s
"""


async def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    named = sorted({(row["tenant"], row["upload_id"]) for row in rows if row["upload_id"] is not None})
    if named:
        tenants, uploads = zip(*named, strict=True)
        await connection.execute(_NAME, {"tenants": list(tenants), "uploads": list(uploads)})
    await connection.execute(_STORE, {name: [row[name] for row in rows] for name in _COLUMNS})


def _row(
    person: Person, action: str, *, tenant: str | None, upload_id: str | None, details: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "subject": person.subject,
        "name": storable(person.name),
        "action": action,
        "tenant": tenant,
        "upload_id": upload_id,
        "details": Jsonb({key: _storable(value) for key, value in (details or {}).items()}),
    }


def _storable(value: object) -> object:
    return storable(value) if isinstance(value, str) else value
