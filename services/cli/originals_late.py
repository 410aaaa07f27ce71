"""`pentimento originals late`: earlier uploads that are judged again because their original came after them.

In: a tenant. Out: how many wait, were revised or were skipped and why; which originals matched too many to take.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    TenantOption,
    duration,
    note,
    settings_of,
    write_lines,
    write_table,
)
from services.clients.late import LateCount, LateReport
from services.settings import Settings

COLUMNS = ("state", "uploads", "oldest", "reason")


def late(tenant: TenantOption = "default", as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show what became of earlier uploads that a new original matches.

    An original that is registered after uploads made from it has them judged again: the verdict gets a higher
    revision. queued: waits for its turn. sent: on its way to judge. revised: has the new verdict. skipped: the verdict
    stays, and the reason says why.

    Example: pentimento originals late --tenant acme --json
    """
    counts, cut = asyncio.run(_report(settings_of(data), tenant))
    if as_json:
        write_lines(_as_json(each) for each in counts)
        write_lines({"tenant": tenant, "original_id": each, "state": "cut"} for each in cut)
        return
    write_table(COLUMNS, (_cells(each) for each in counts))
    waiting = sum(each.uploads for each in counts if each.state == "queued")
    note(f"{waiting} uploads of tenant {tenant} wait to be judged again")
    if cut:
        named = ", ".join(cut[:5]) + (", ..." if len(cut) > 5 else "")
        note(f"{len(cut)} originals matched more uploads than PENTIMENTO_LATE__MAX_UPLOADS allows: {named}")


async def _report(settings: Settings, tenant: str) -> tuple[list[LateCount], list[str]]:
    async with opened_database(settings) as database:
        report = LateReport(database)
        return await report.counts(tenant), await report.cut(tenant)


def _cells(count: LateCount) -> tuple[str, ...]:
    age = duration((datetime.now(UTC) - count.oldest).total_seconds())
    return (count.state, str(count.uploads), age, count.reason or "")


def _as_json(count: LateCount) -> dict[str, object]:
    return {
        "tenant": count.tenant,
        "state": count.state,
        "reason": count.reason,
        "uploads": count.uploads,
        "oldest": count.oldest.astimezone(UTC).isoformat(),
    }
