"""The audit log, for leads and administrators: a page, its JSON twin, and an export.

In: filters and a cursor. Out: entries, newest first. Whoever sees only some tenants sees only their entries, and none
that belongs to no tenant, such as sign-ins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel
from starlette.responses import Response, StreamingResponse

from services.clients.audit import COLUMNS, Audit, AuditFilter, Entry
from services.core.access import Person, Role
from services.core.spreadsheet import csv_line
from services.web.access import Who, at_least, tenants_of
from services.web.pages import render
from services.web.parts import Parts
from services.web.problems import EXPORTS, Refused

PAGE = 100
EXPORT_PAGE = 1000
LEADS = [Depends(at_least(Role.LEAD))]

Text = Annotated[str | None, Query(max_length=200)]
When = Annotated[AwareDatetime | None, Query(description="With its offset, `2026-11-22T12:00:00Z`.")]
Before = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="`next_before` of the page before.")]


class EntryShown(BaseModel):
    """Something that somebody did. `upload_id` null: about no upload, or the picture was erased."""

    id: int
    at: datetime
    subject: str
    name: str
    action: str
    tenant: str | None
    upload_id: str | None
    details: dict[str, Any]


class AuditPage(BaseModel):
    """A page of entries. `next_before` is absent on the last one."""

    entries: list[EntryShown]
    next_before: int | None = None


def chosen(
    person: Who,
    subject: Text = None,
    action: Text = None,
    tenant: Text = None,
    upload_id: Text = None,
    since: When = None,
    until: When = None,
) -> AuditFilter:
    """The filter of a request, within what the person may see. Raises Refused (404) for another's tenant."""
    words = [text or None for text in (subject, action, tenant, upload_id)]  # a form's empty field asks for nothing
    if any("\x00" in word for word in words if word is not None):
        raise Refused(422, "invalid_request", "No name contains a NUL character.")
    asked = tenants_of(person, words[2])
    return AuditFilter(subject=words[0], action=words[1], upload_id=words[3], since=since, until=until, tenants=asked)


Chosen = Annotated[AuditFilter, Depends(chosen)]


def pages(parts: Parts) -> APIRouter:
    """The page."""
    routes = APIRouter(include_in_schema=False, dependencies=LEADS)

    @routes.get("/admin/audit")
    async def listed(filters: Chosen, before: Before = None) -> Response:
        entries, following = await _page(parts.audit, filters, PAGE, before)
        asked = {
            "subject": filters.subject,
            "action": filters.action,
            "tenant": filters.tenants[0] if filters.tenants is not None and len(filters.tenants) == 1 else None,
            "upload_id": filters.upload_id,
        }
        query = urlencode({name: value for name, value in asked.items() if value})
        return render("admin_audit.html", {"entries": entries, "before": following, "asked": asked, "query": query})

    return routes


def api(parts: Parts) -> APIRouter:
    """Its JSON twin, and the export."""
    routes = APIRouter(prefix="/api/v1/audit", dependencies=LEADS)

    @routes.get("", response_model_exclude_none=True)
    async def listed(
        filters: Chosen, limit: Annotated[int, Query(ge=1, le=EXPORT_PAGE)] = PAGE, before: Before = None
    ) -> AuditPage:
        entries, following = await _page(parts.audit, filters, limit, before)
        return AuditPage(entries=[EntryShown(**asdict(each)) for each in entries], next_before=following)

    @routes.get("/export", response_class=StreamingResponse, responses=EXPORTS)
    async def export(
        person: Who,
        filters: Chosen,
        form: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "csv",
        before: Before = None,
    ) -> StreamingResponse:
        await _say(parts.audit, person, filters)
        kind = "text/csv; charset=utf-8" if form == "csv" else "application/jsonl"
        headers = {"content-disposition": f'attachment; filename="audit.{form}"'}
        return StreamingResponse(_lines(parts.audit, filters, form, before), media_type=kind, headers=headers)

    return routes


async def _say(audit: Audit, person: Person, filters: AuditFilter) -> None:
    asked = {name: str(value) for name, value in asdict(filters).items() if value is not None and name != "upload_id"}
    await audit.record(person, "audit_exported", details=asked)


async def _page(audit: Audit, filters: AuditFilter, size: int, before: int | None) -> tuple[list[Entry], int | None]:
    found = await audit.find(filters, limit=size + 1, before=before)
    return found[:size], found[size - 1].id if len(found) > size else None


async def _lines(audit: Audit, filters: AuditFilter, form: str, before: int | None) -> AsyncIterator[str]:
    if form == "csv":
        yield csv_line(COLUMNS)
    following = before
    while True:
        entries, following = await _page(audit, filters, EXPORT_PAGE, following)
        if form == "csv":
            yield "".join(csv_line(each.cells()) for each in entries)
        else:
            yield "".join(EntryShown(**asdict(each)).model_dump_json() + "\n" for each in entries)
        if following is None:
            return
