"""What is old enough to go: pictures, masks and verdicts of a tenant, some at a time, and the rows of the latter two.

In: a tenant and the moments before which things go. Out: what is due, oldest first, or what was removed. What went is
not due any more, so that whoever was cut off just begins again. Pictures go by `erasing.erase`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.database import Connection, Database
from services.clients.erasure import unnamed
from services.core.events import HardCaseFound, VerdictReached
from services.core.retention import Cutoffs, without_mask

TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Due:
    """How many pictures, masks and verdicts are due."""

    pictures: int
    masks: int
    verdicts: int


class Retention:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tenants(self) -> list[str]:
        """Every tenant that has uploads or verdicts."""
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            rows = await (await connection.execute(_TENANTS)).fetchall()
        return [str(row["tenant"]) for row in rows]

    async def due(self, tenant: str, before: Cutoffs) -> Due:
        """How much is due now. Verdicts whose picture is due with them count as well."""
        query = _query(tenant, before)
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            counts = [
                await _count(connection, statement, query) if moment else 0
                for statement, moment in (
                    (_PICTURES, before.pictures), (_MASKS, before.masks), (_COUNTED_VERDICTS, before.verdicts)
                )
            ]  # fmt: skip
        return Due(*counts)

    async def pictures(self, tenant: str, before: Cutoffs, *, limit: int) -> list[str]:
        """The contents that came last the longest ago. Trusted originals are none of them, samples where due."""
        if before.pictures is None:
            return []
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            rows = await (await connection.execute(_PICTURES, {**_query(tenant, before), "limit": limit})).fetchall()
        return [str(row["sha256"]) for row in rows]

    @asynccontextmanager
    async def forgetting_masks(
        self, tenant: str, before: datetime, *, limit: int
    ) -> AsyncIterator[tuple[int, list[str]]]:
        """Take the oldest masks out of their verdicts: how many, and the objects that nothing names any more. It is
        done when the block ends without an error."""
        query = {"tenant": tenant, "masks": before, "limit": limit}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection, connection.transaction():
            rows = await (await connection.execute(_MASKS, query)).fetchall()
            masks: set[str] = set()
            for row in rows:
                masks |= await _emptied(connection, {**row, "tenant": tenant})
            yield len(rows), await unnamed(connection, masks)

    async def forget_verdicts(self, tenant: str, before: datetime, *, limit: int) -> dict[str, int]:
        """Remove the oldest verdicts that have no picture any more, with what hangs on them. How many rows by table."""
        query: dict[str, Any] = {"tenant": tenant, "verdicts": before, "limit": limit}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection, connection.transaction():
            rows = await (await connection.execute(_VERDICTS, query)).fetchall()
            query["uploads"] = [row["upload_id"] for row in rows]
            cases = await (await connection.execute(_CASES, query)).fetchall()
            query["cases"] = [row["case_id"] for row in cases]
            counts = {
                table: (await connection.execute(f"delete from {table} where {where}", query)).rowcount
                for table, where in _OF_VERDICTS
            }
        return {table: count for table, count in counts.items() if count}


_TENANTS = "select tenant from upload union select tenant from verdict order by tenant"
# A picture that came again is as young as its last upload.
_PICTURES = """
select sha256, min(accepted_at) as first from upload as old
where tenant = %(tenant)s and accepted_at < %(pictures)s
    and not exists (select 1 from upload as again where again.tenant = old.tenant and again.sha256 = old.sha256
                    and again.accepted_at >= %(pictures)s)
    and not exists (select 1 from candidate where candidate.tenant = old.tenant and candidate.sha256 = old.sha256
                    and trusted)
    and (accepted_at < %(samples)s
         or not exists (select 1 from sample where sample.tenant = old.tenant and sample.sha256 = old.sha256))
group by sha256 order by first, sha256 limit %(limit)s
"""
_MASKS = """
select upload_id, revision, event from ledger
where tenant = %(tenant)s and judged_at < %(masks)s and event like '%%"object_key":"masks/%%'
order by judged_at limit %(limit)s
"""
_OLD_VERDICTS = "select upload_id from verdict where tenant = %(tenant)s and judged_at < %(verdicts)s"
_VERDICTS = f"""
{_OLD_VERDICTS}
    and not exists (select 1 from upload where upload.tenant = verdict.tenant and upload.upload_id = verdict.upload_id)
order by judged_at, upload_id limit %(limit)s for update
"""
_COUNTED_VERDICTS = f"""
{_OLD_VERDICTS}
    and not exists (select 1 from upload where upload.tenant = verdict.tenant and upload.upload_id = verdict.upload_id
                    and accepted_at >= %(pictures)s)
limit %(limit)s
"""
_WRITE_MASKED = (
    "update ledger set event = %(after)s where {of}",
    "update verdict_history set event = %(after)s where {of}",
    "update verdict set event = %(after)s where {of}",
)
_OF_REVISION = "tenant = %(tenant)s and upload_id = %(upload_id)s and revision = %(revision)s"
_CASE_OF_MASK = """
select sha256, event from hard_case where tenant = %(tenant)s
    and substring(event from '"mask_key":"(masks/[^"]+)"') = %(key)s
"""
_WRITE_CASE = "update hard_case set event = %(event)s where tenant = %(tenant)s and sha256 = %(sha256)s"

_CASES = "select case_id from review_member where tenant = %(tenant)s and upload_id = any(%(uploads)s)"
_OF_UPLOADS = "tenant = %(tenant)s and upload_id = any(%(uploads)s)"
_OF_VERDICTS = (
    ("shadow", _OF_UPLOADS),
    ("rejudge", _OF_UPLOADS),
    ("late", _OF_UPLOADS),
    ("review_honeypot", _OF_UPLOADS),
    ("review_outcome", _OF_UPLOADS),
    ("review_member", _OF_UPLOADS),
    ("review_case", "id = any(%(cases)s) and not exists (select 1 from review_member where case_id = review_case.id)"),
    ("review", _OF_UPLOADS),
    ("audit_upload", _OF_UPLOADS),
    ("verdict_history", _OF_UPLOADS),
    ("ledger", _OF_UPLOADS),
    ("verdict", _OF_UPLOADS),
)


def _query(tenant: str, before: Cutoffs) -> dict[str, Any]:
    moments = {name: getattr(before, name) for name in ("pictures", "samples", "masks", "verdicts")}
    return {"tenant": tenant, "limit": None, **moments}


async def _count(connection: Connection, statement: str, query: dict[str, Any]) -> int:
    row = await (await connection.execute(f"select count(*) as due from ({statement}) as found", query)).fetchone()
    return int(row["due"]) if row else 0


async def _emptied(connection: Connection, row: dict[str, Any]) -> set[str]:
    """A revision without its mask, everywhere; the keys that it named."""
    verdict = VerdictReached.model_validate_json(row["event"])
    if verdict.mask is None:
        return set()
    key, after = verdict.mask.object_key, _text(without_mask(verdict))
    for statement in _WRITE_MASKED:
        await connection.execute(statement.format(of=_OF_REVISION), {**row, "after": after})
    query: dict[str, Any] = {"tenant": row["tenant"], "key": key}
    for found in await (await connection.execute(_CASE_OF_MASK, query)).fetchall():
        case = HardCaseFound.model_validate_json(found["event"]).model_copy(update={"mask_key": None})
        await connection.execute(_WRITE_CASE, {**query, "sha256": found["sha256"], "event": _text(case)})
    return {key}


def _text(event: VerdictReached | HardCaseFound) -> str:
    return event.to_bytes().decode()
