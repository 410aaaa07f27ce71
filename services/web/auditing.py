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
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.clients.audit import COLUMNS, Audit, AuditFilter, Entry
from services.core.access import Person, Role
from services.core.spreadsheet import csv_line
from services.web.access import Who, at_least, tenants_of
from services.web.pages import render
from services.web.paging import Limit, Page, Place, cut, following, number, read_place, write_place
from services.web.parts import Parts
from services.web.problems import EXPORTS, Refused

PAGE = 100
EXPORT_PAGE = 1000
LEADS = [Depends(at_least(Role.LEAD))]

Text = Annotated[str | None, Query(max_length=200)]
When = Annotated[AwareDatetime | None, Query(description="With its offset, `2026-11-22T12:00:00Z`.")]
Before = Annotated[
    int | None, Query(ge=1, le=2**63 - 1, description="`id` of a file's last line: goes on where it was cut off.")
]


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


class AuditPage(Page):
    """A page of entries, newest first."""

    entries: list[EntryShown]


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
    async def listed(filters: Chosen, cursor: Place = None) -> Response:
        entries, place = await _page(parts.audit, filters, PAGE, cursor)
        asked = {
            "subject": filters.subject,
            "action": filters.action,
            "tenant": filters.tenants[0] if filters.tenants is not None and len(filters.tenants) == 1 else None,
            "upload_id": filters.upload_id,
        }
        query = {name: value for name, value in asked.items() if value}
        older = None if place is None else f"/admin/audit?{urlencode(query | {'cursor': place})}"
        values = {"entries": entries, "older": older, "asked": asked, "query": urlencode(query)}
        return render("admin_audit.html", values)

    return routes


def api(parts: Parts) -> APIRouter:
    """Its JSON twin, and the export."""
    routes = APIRouter(prefix="/api/v1/audit", dependencies=LEADS)

    @routes.get("", response_model_exclude_none=True)
    async def listed(request: Request, filters: Chosen, limit: Limit = PAGE, cursor: Place = None) -> AuditPage:
        entries, place = await _page(parts.audit, filters, limit, cursor)
        shown = [EntryShown(**asdict(each)) for each in entries]
        return AuditPage(entries=shown, next_cursor=place, next=following(request, place))

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


async def _page(audit: Audit, filters: AuditFilter, size: int, cursor: str | None) -> tuple[list[Entry], str | None]:
    before = None if cursor is None else read_place(cursor, number)
    found = await audit.find(filters, limit=size + 1, before=before)
    return cut(found, size, lambda last: write_place(last.id))


async def _lines(audit: Audit, filters: AuditFilter, form: str, before: int | None) -> AsyncIterator[str]:
    if form == "csv":
        yield csv_line(COLUMNS)
    while True:
        entries = await audit.find(filters, limit=EXPORT_PAGE, before=before)
        if form == "csv":
            yield "".join(csv_line(each.cells()) for each in entries)
        else:
            yield "".join(EntryShown(**asdict(each)).model_dump_json() + "\n" for each in entries)
        if len(entries) < EXPORT_PAGE:
            return
        before = entries[-1].id
