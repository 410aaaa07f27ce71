"""Verdicts for people and programs: a list, newest first, and one verdict with its revisions. Each has a JSON twin.

In: filters and a cursor. Out: pages and JSON. Paging is by key, so a page stays the same while new verdicts arrive.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from services.clients.cases import Cursor, VerdictFilter, Verdicts
from services.core.access import Person, Role
from services.core.events import Decision, VerdictReached
from services.web.access import Who, at_least, tenants_of
from services.web.pages import list_link, render
from services.web.problems import Refused

PAGE = 24
MOST = 200
READERS = [Depends(at_least(Role.VIEWER))]

Decisions = Annotated[list[Decision] | None, Query(description="Only these decisions; may be given several times.")]
Tenant = Annotated[str | None, Query(max_length=100, description="Only this tenant's uploads.")]
UploadId = Annotated[str | None, Query(max_length=200, description="Only the upload with this id.")]
Place = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]


class VerdictPage(BaseModel):
    """A page of verdicts. `next_cursor` and `next` are absent on the last one."""

    verdicts: list[VerdictReached]
    next_cursor: str | None = None
    next: str | None = None


class VerdictHistory(BaseModel):
    """One upload's verdict: the revision in force, and all of them, oldest first."""

    verdict: VerdictReached
    revisions: list[VerdictReached]


@dataclass(frozen=True, slots=True)
class Found:
    """Verdicts of one page and the cursor of the next."""

    verdicts: list[VerdictReached]
    next_cursor: str | None


def pages(verdicts: Verdicts) -> APIRouter:
    """The list and the single verdict, for people."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False, dependencies=READERS)

    @routes.get("/")
    async def listed(
        person: Who, decision: Decisions = None, tenant: Tenant = None, upload_id: UploadId = None, cursor: Place = None
    ) -> HTMLResponse:
        # A form's empty field means that nothing was asked for.
        tenant, upload_id = tenant or None, upload_id or None
        found = await _page(verdicts, _filter(person, decision, tenant, upload_id), PAGE, cursor)
        counts = await verdicts.counts(_filter(person, None, tenant, None))
        values = {
            "verdicts": found.verdicts,
            "counts": counts,
            "total": sum(counts.values()),
            "chosen": decision[0] if decision and len(decision) == 1 else None,
            "filtered": bool(decision or upload_id),
            "tenant": tenant,
            "upload_id": upload_id,
            "cursor": cursor,
            "next_cursor": found.next_cursor,
        }
        return render("verdicts.html", values)

    # An upload id may contain slashes, hence `:path`.
    @routes.get("/verdicts/{tenant}/{upload_id:path}")
    async def one(person: Who, tenant: str, upload_id: str) -> HTMLResponse:
        revisions = await _history(verdicts, person, tenant, upload_id)
        return render("verdict.html", {"verdict": revisions[-1], "revisions": revisions})

    return routes


def api(verdicts: Verdicts) -> APIRouter:
    """Their JSON twins."""
    routes = APIRouter(prefix="/api/v1/verdicts", dependencies=READERS)

    @routes.get("", response_model=VerdictPage, response_model_exclude_none=True)
    async def listed(
        person: Who,
        decision: Decisions = None,
        tenant: Tenant = None,
        upload_id: UploadId = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
        cursor: Place = None,
    ) -> VerdictPage:
        found = await _page(verdicts, _filter(person, decision, tenant, upload_id), limit, cursor)
        following = None
        if found.next_cursor is not None:
            query = {"tenant": tenant, "upload_id": upload_id, "limit": str(limit), "cursor": found.next_cursor}
            chosen = "".join(f"&decision={each.value}" for each in decision or ())
            following = list_link(api=True, **query) + chosen
        return VerdictPage(verdicts=found.verdicts, next_cursor=found.next_cursor, next=following)

    @routes.get("/{tenant}/{upload_id:path}", response_model=VerdictHistory, response_model_exclude_none=True)
    async def one(person: Who, tenant: str, upload_id: str) -> VerdictHistory:
        revisions = await _history(verdicts, person, tenant, upload_id)
        return VerdictHistory(verdict=revisions[-1], revisions=revisions)

    return routes


async def newest(verdicts: Verdicts, person: Person, tenant: str, upload_id: str) -> VerdictReached:
    """The verdict in force. Raises Refused (404) where there is none, or none that the person may see."""
    return (await _history(verdicts, person, tenant, upload_id))[-1]


def write_cursor(cursor: Cursor) -> str:
    """A cursor as a URL-safe word."""
    place = json.dumps([cursor.judged_at.isoformat(), cursor.tenant, cursor.upload_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(text: str) -> Cursor:
    """The cursor of a word that `write_cursor` made. Raises Refused (422) for anything else."""
    try:
        when, tenant, upload_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        cursor = Cursor(datetime.fromisoformat(when), str(tenant), str(upload_id))
    except (binascii.Error, TypeError, UnicodeDecodeError, ValueError) as error:
        raise Refused(422, "invalid_cursor", "The cursor is not one of ours: start again without it.") from error
    if cursor.judged_at.tzinfo is None or "\x00" in cursor.tenant + cursor.upload_id:
        raise Refused(422, "invalid_cursor", "The cursor is not one of ours: start again without it.")
    return cursor


def _filter(
    person: Person, decision: list[Decision] | None, tenant: str | None, upload_id: str | None
) -> VerdictFilter:
    return VerdictFilter(
        tenants=tenants_of(person, _searchable(tenant)),
        decisions=tuple(decision) if decision else None,
        upload_ids=None if upload_id is None else (_searchable(upload_id) or "",),
    )


def _searchable(text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise Refused(422, "invalid_request", "No id contains a NUL character.")
    return text


async def _page(verdicts: Verdicts, chosen: VerdictFilter, size: int, cursor: str | None) -> Found:
    before = None if cursor is None else read_cursor(cursor)
    found = await verdicts.find(chosen, limit=size + 1, before=before)  # one more, to know whether there is a next page
    more = len(found) > size
    return Found(found[:size], write_cursor(Cursor.after(found[size - 1])) if more else None)


async def _history(verdicts: Verdicts, person: Person, tenant: str, upload_id: str) -> list[VerdictReached]:
    asked = _searchable(tenant) or "", _searchable(upload_id) or ""
    # Others' uploads are answered word for word like uploads that never were.
    revisions = await verdicts.get(*asked) if person.sees(tenant) else []
    if not revisions:
        text = f"There is no verdict for upload {upload_id!r} of tenant {tenant!r} yet."
        raise Refused(404, "no_verdict", text)
    return revisions
