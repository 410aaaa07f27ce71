"""Verdicts for people and programs: a list, newest first, and one verdict with its revisions. Each has a JSON twin.

In: filters and a cursor. Out: pages and JSON. Paging is by key, so a page stays the same while new verdicts arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from services.clients.cases import Cursor, VerdictFilter, Verdicts
from services.core.access import Person, Role
from services.core.events import Decision, VerdictReached
from services.web.access import Who, at_least, tenants_of
from services.web.pages import list_link, render
from services.web.paging import Limit, Page, Place, moment_and_id, read_place, write_place
from services.web.problems import Refused

PAGE = 24
READERS = [Depends(at_least(Role.VIEWER))]

Decisions = Annotated[list[Decision] | None, Query(description="Only these decisions; may be given several times.")]
Tenant = Annotated[str | None, Query(max_length=100, description="Only this tenant's uploads.")]
UploadId = Annotated[str | None, Query(max_length=200, description="Only the upload with this id.")]


class VerdictPage(Page):
    """A page of verdicts, the newest first."""

    verdicts: list[VerdictReached]


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
    """The list, for people. A single verdict's page is `evidence.py`'s."""
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

    return routes


def api(verdicts: Verdicts) -> APIRouter:
    """Their JSON twins."""
    routes = APIRouter(prefix="/api/v1/verdicts", dependencies=READERS)

    @routes.get("", response_model=VerdictPage, response_model_exclude_none=True, summary="List verdicts")
    async def listed(
        person: Who,
        decision: Decisions = None,
        tenant: Tenant = None,
        upload_id: UploadId = None,
        limit: Limit = 50,
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
        """One upload's verdict and its revisions."""
        revisions = await history(verdicts, person, tenant, upload_id)
        return VerdictHistory(verdict=revisions[-1], revisions=revisions)

    return routes


async def history(verdicts: Verdicts, person: Person, tenant: str, upload_id: str) -> list[VerdictReached]:
    """Every revision of an upload's verdict, the first one first. Raises Refused (404) where there is none that the
    person may see."""
    asked = _searchable(tenant) or "", _searchable(upload_id) or ""
    # Others' uploads are answered word for word like uploads that never were.
    revisions = await verdicts.get(*asked) if person.sees(tenant) else []
    if not revisions:
        text = f"There is no verdict for upload {upload_id!r} of tenant {tenant!r} yet."
        raise Refused(404, "no_verdict", text)
    return revisions


def at_revision(revisions: list[VerdictReached], number: int | None) -> list[VerdictReached]:
    """The revisions up to the one with this number; all of them for None. Raises Refused (404) where it is none."""
    if number is None:
        return revisions
    if all(each.revision != number for each in revisions):
        raise Refused(404, "no_revision", f"There is no revision {number} of the verdict.")
    return [each for each in revisions if each.revision <= number]


def write_cursor(cursor: Cursor) -> str:
    """A cursor as a URL-safe word."""
    return write_place(cursor.judged_at.isoformat(), cursor.tenant, cursor.upload_id)


def read_cursor(text: str) -> Cursor:
    """The cursor of a word that `write_cursor` made. Raises Refused (422) for anything else."""
    return read_place(text, _cursor)


def _cursor(moment: str, tenant: str, upload_id: str) -> Cursor:
    judged_at, tenant = moment_and_id(moment, tenant)
    return Cursor(judged_at, tenant, str(upload_id))


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
