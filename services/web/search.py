"""Search: verdicts by whatever a person knows of an upload, as a page with a link that stays, as JSON, and as a file.

In: a query. Out: a page of verdicts and how many there are, as far as that is cheap to know. A hash finds what is near
to it, originals too. A search for a picture (`picture_search.py`) leads to the same page by the picture's hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import HTMLResponse

from services.clients.candidates import Candidates, Neighbour
from services.clients.cases import Cursor
from services.clients.searching import COUNTED_AT_MOST, Search, Searches
from services.core.access import Person, Role
from services.core.events import Decision, Fingerprint, Path, VerdictReached
from services.web.access import Who, at_least, own_tenant, seen
from services.web.pages import render
from services.web.parts import Parts
from services.web.verdicts import read_cursor, write_cursor

PAGE = 24
MOST = 200
NEAR_AT_MOST = 100  # contents near to a hash
DISTANCE = 31  # what the authors of PDQ take for a copy
VIEWERS = [Depends(at_least(Role.VIEWER))]


class Asked(BaseModel):
    """A search as it stands in an address. Fields that are empty ask for nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Annotated[str | None, Field(max_length=100, description="Only this tenant's uploads.")] = None
    upload: Annotated[str | None, Field(max_length=200, description="The upload's id, or its beginning.")] = None
    file: Annotated[
        str | None, Field(max_length=400, description="The file's name, or its beginning, in any case.")
    ] = None
    original: Annotated[str | None, Field(max_length=200, description="The id of the original it was made from.")] = (
        None
    )
    sha256: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the file.")] = None
    pdq: Annotated[str | None, Field(pattern="^[0-9a-fA-F]{64}$", description="PDQ hash: what is near to it.")] = None
    distance: Annotated[int, Field(ge=0, le=128, description="Bits in which hashes may differ.")] = DISTANCE
    decision: Annotated[list[Decision], Field(description="Only these decisions.")] = []
    path: Annotated[list[Path], Field(description="Only what was judged in these ways.")] = []
    since: Annotated[datetime | None, Field(description="Judged from then on; UTC unless it says otherwise.")] = None
    until: Annotated[datetime | None, Field(description="Judged before then.")] = None
    score_min: Annotated[float | None, Field(ge=0, le=1, description="Score from.")] = None
    score_max: Annotated[float | None, Field(ge=0, le=1, description="Score up to.")] = None
    cursor: Annotated[str | None, Field(max_length=1000, description="`next_cursor` of the page before.")] = None

    @field_validator("*", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        """What a form sends for a field that was left empty."""
        if isinstance(value, str):
            value = value.strip()
            if "\x00" in value:
                raise ValueError("no text that is searched for contains a NUL character")
            return value or None
        return [each for each in value if each != ""] if isinstance(value, list) else value

    @field_validator("distance", mode="before")
    @classmethod
    def _usual(cls, value: Any) -> Any:
        return DISTANCE if value in (None, "") else value

    @field_validator("since", "until")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    def query(self, **changes: str | None) -> dict[str, Any]:
        """The address that asks the same, from the first page on; `changes` of None leave a word out."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True) | changes
        values = {name: value for name, value in values.items() if value not in (None, [])}
        return values if "cursor" in changes else {name: each for name, each in values.items() if name != "cursor"}

    def link(self, path: str = "/search", **changes: str | None) -> str:
        """The same as an address."""
        query = urlencode(self.query(**changes), doseq=True)
        return f"{path}?{query}" if query else path


def question(asked: Annotated[Asked, Query()]) -> Asked:
    """A search among other words of an address."""
    return asked


Question = Annotated[Asked, Depends(question)]


@dataclass(frozen=True, slots=True)
class Found:
    """A page. `count` beyond `COUNTED_AT_MOST` says that there are more. `near` by SHA-256, where a hash was sought."""

    verdicts: list[VerdictReached]
    count: int
    next_cursor: str | None
    near: Mapping[str, Neighbour]

    @property
    def counted(self) -> str:
        """For people."""
        return f"{COUNTED_AT_MOST:,}+" if self.count > COUNTED_AT_MOST else f"{self.count:,}"

    @property
    def originals(self) -> list[Neighbour]:
        """Trusted originals near to the hash, the nearest first."""
        return sorted((each for each in self.near.values() if each.picture.trusted), key=lambda each: each.distance)


class Searching:
    """What the page, its twin and the export share."""

    def __init__(self, parts: Parts) -> None:
        self.searches = Searches(parts.database)
        self._candidates = Candidates(parts.database)

    async def find(self, person: Person, asked: Asked, *, limit: int) -> Found:
        """A page of what a person may see. Raises Refused for another's tenant, or a cursor that is not ours."""
        search, near = await self.search(person, asked)
        before: Cursor | None = None if asked.cursor is None else read_cursor(asked.cursor)
        found = await self.searches.find(search, limit=limit + 1, before=before)
        more = len(found) > limit
        following = write_cursor(Cursor.after(found[limit - 1])) if more else None
        return Found(found[:limit], await self.searches.count(search), following, near)

    async def search(self, person: Person, asked: Asked) -> tuple[Search, Mapping[str, Neighbour]]:
        """The search, with the contents that are near to the hash that it asks for, if it asks for one."""
        if asked.tenant:
            seen(person, asked.tenant)
        near: dict[str, Neighbour] = {}
        contents: tuple[str, ...] | None = None if asked.sha256 is None else (asked.sha256.lower(),)
        if asked.pdq is not None:
            near = await self.near(tenant_of(person, asked.tenant), asked.pdq.lower(), asked.distance)
            contents = tuple(each for each in near if contents is None or each in contents)
        tenants = None if person.tenants is None else tuple(sorted(person.tenants))
        if asked.tenant or asked.pdq is not None:  # hashes are sought within a tenant
            tenants = (tenant_of(person, asked.tenant),)
        search = Search(
            tenants=tenants,
            upload_id=asked.upload,
            contents=contents,
            original_id=asked.original,
            filename=asked.file,
            decisions=tuple(asked.decision) or None,
            paths=tuple(asked.path) or None,
            since=asked.since,
            until=asked.until,
            score_min=asked.score_min,
            score_max=asked.score_max,
        )
        return search, near

    async def near(self, tenant: str, pdq: str, distance: int) -> dict[str, Neighbour]:
        """Registered pictures within a distance of a hash, by their SHA-256."""
        fingerprint = Fingerprint(pdq=pdq, pdq_quality=100)
        found = await self._candidates.nearest(tenant, fingerprint, max_distance=distance, limit=NEAR_AT_MOST, ways=2)
        return {each.picture.image.sha256: each for each in found}


def tenant_of(person: Person, tenant: str | None) -> str:
    """Whose pictures are sought: those of a tenant that was named, of the only one that a person sees, or `default`.

    Raises Refused (404) for another's.
    """
    return seen(person, tenant or own_tenant(person))


def pages(searching: Searching) -> APIRouter:
    """The page."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False, dependencies=VIEWERS)

    @routes.get("/search")
    async def search(
        person: Who, asked: Question, view: Annotated[str, Query(pattern="^(cards|table)?$")] = "cards"
    ) -> HTMLResponse:
        found = await searching.find(person, asked, limit=PAGE)
        values = {
            "asked": asked,
            "found": found,
            "narrowed": bool(asked.query()),
            "view": view or "cards",
            "views": {name: f"{asked.link(view=name)}" for name in ("cards", "table")},
            "newest": asked.link(view=view),
            "older": None if found.next_cursor is None else asked.link(view=view, cursor=found.next_cursor),
            "exports": {kind: asked.link("/api/v1/search/export", format=kind) for kind in ("csv", "jsonl")},
            "may_export": person.may(Role.LEAD),
            "twin": asked.link("/api/v1/search"),
            "tenants": sorted(person.tenants) if person.tenants is not None else None,
        }
        return render("search.html", values)

    return routes


class SearchPage(BaseModel):
    """A page of verdicts, newest first. `count` is exact up to 1000; above that `more_than_counted` is true."""

    verdicts: list[VerdictReached]
    count: int
    more_than_counted: bool
    distances: dict[str, int] | None = None
    next_cursor: str | None = None
    next: str | None = None


def api(searching: Searching) -> APIRouter:
    """Its JSON twin."""
    routes = APIRouter(prefix="/api/v1/search", dependencies=VIEWERS)

    @routes.get("", response_model=SearchPage, response_model_exclude_none=True)
    async def search(person: Who, asked: Question, limit: Annotated[int, Query(ge=1, le=MOST)] = 50) -> SearchPage:
        """Verdicts that fit all that is asked; `distances` by SHA-256 where a hash was sought."""
        found = await searching.find(person, asked, limit=limit)
        following = None
        if found.next_cursor is not None:
            following = asked.link("/api/v1/search", limit=str(limit), cursor=found.next_cursor)
        return SearchPage(
            verdicts=found.verdicts,
            count=min(found.count, COUNTED_AT_MOST),
            more_than_counted=found.count > COUNTED_AT_MOST,
            distances={sha256: each.distance for sha256, each in found.near.items()} if asked.pdq else None,
            next_cursor=found.next_cursor,
            next=following,
        )

    return routes
