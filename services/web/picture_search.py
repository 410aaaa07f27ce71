"""Search by a picture: a file is dropped, and what it was made from or made into is found.

In: `multipart/form-data` with the file `image`, and optionally `tenant`. Out: originals and uploads that are near by
hash, and those that geometry confirms, also by a part alone. The same guard as for uploads; the file is not kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastapi import APIRouter
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.clients.searching import Search, Searches
from services.core.access import Person
from services.core.errors import Rejected
from services.core.events import Candidate, VerdictReached
from services.web.access import Who
from services.web.pages import render, verdict_link
from services.web.parts import Options, Parts, Sought
from services.web.problems import Refused
from services.web.search import VIEWERS, Asked, tenant_of
from services.web.uploads import FORM_BYTES, form_of, refuse_long

SHOWN = 100  # verdicts of contents that were found
WAITING = 4  # files in memory; more are refused
SEEK_S = 60.0

By = Literal["file", "contents", "hash"]
BY: tuple[By, ...] = get_args(By)

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}, "tenant": {"type": "string"}},
                }
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class Match:
    """A registered picture that was found: how far its hash is, what geometry says, and an upload's verdicts.

    `by`: it is the very same file, geometry found its contents, or its hash alone is near.
    """

    picture_id: str
    sha256: str
    trusted: bool
    source: str
    distance: int
    by: By
    inliers: int | None
    overlap: float | None
    verdicts: tuple[VerdictReached, ...]

    def as_json(self) -> dict[str, Any]:
        """With links to the verdicts instead of whole ones."""
        return {
            "id": self.picture_id,
            "sha256": self.sha256,
            "trusted": self.trusted,
            "source": self.source,
            "distance": self.distance,
            "by": self.by,
            "inliers": self.inliers,
            "overlap": self.overlap,
            "verdicts": [
                {"decision": each.decision.value, "verdict": verdict_link(each.tenant, each.upload_id, api=True)}
                for each in self.verdicts
            ],
        }


class PictureSearch:
    """What the page and its twin share."""

    def __init__(self, parts: Parts, options: Options) -> None:
        self._parts = parts
        self._options = options
        self._searches = Searches(parts.database)
        self._room = asyncio.Semaphore(WAITING)

    async def find(self, request: Request, person: Person) -> tuple[Sought, list[Match], str]:
        """What was found, the surest first, and the tenant. Raises Refused or Rejected."""
        if self._parts.seek is None:
            raise Refused(503, "no_picture_search", "This process was started without search by picture.")
        if self._room.locked():
            raise Refused(503, "busy", "Too many pictures are looked for at once; try again in a moment.")
        refuse_long(request, self._options.max_bytes)
        async with self._room:
            form = await form_of(request, self._options.max_bytes + FORM_BYTES)
            try:
                image, named = form.get("image"), form.get("tenant")
                if not isinstance(image, UploadFile) or isinstance(named, UploadFile):
                    raise Refused(422, "no_image", "The form has no file in the field `image`.")
                tenant, data = tenant_of(person, named or None), await image.read()
            finally:
                await form.close()
            if not data:
                raise Rejected("empty", "The file in the field `image` has no bytes.")
            try:
                async with asyncio.timeout(SEEK_S):
                    sought = await self._parts.seek(tenant, data)
            except TimeoutError as error:
                text = f"The picture was not looked up within {SEEK_S:g} s; try again in a moment."
                raise Refused(503, "busy", text) from error
        await self._parts.audit.record(person, "searched_by_picture", tenant=tenant)
        return sought, await self._matches(tenant, sought), tenant

    async def _matches(self, tenant: str, sought: Sought) -> list[Match]:
        """Every content once: as geometry confirmed it, else as its hash has it."""
        confirmed = {each.sha256: each for each in sought.candidates}
        near = {each.picture.image.sha256: each.candidate(0, 0.0, None) for each in sought.near}
        pictures = {**near, **confirmed}
        known = Search(tenants=(tenant,), contents=tuple({*pictures, sought.image.sha256}))
        verdicts = await self._searches.find(known, limit=SHOWN)
        found = []
        for sha256, each in pictures.items():
            by: By = "file" if sha256 == sought.image.sha256 else "contents" if sha256 in confirmed else "hash"
            found.append(_match(each, by, verdicts))
        return sorted(found, key=lambda each: (BY.index(each.by), -(each.overlap or 0.0), each.distance))


def pages(searching: PictureSearch) -> APIRouter:
    """What the search page's form for a picture leads to."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False, dependencies=VIEWERS)

    @routes.post("/search/picture")
    async def found(request: Request, person: Who) -> HTMLResponse:
        sought, matches, tenant = await searching.find(request, person)
        asked = Asked(pdq=sought.fingerprint.pdq, tenant=tenant)
        values = {"sought": sought, "matches": matches, "tenant": tenant, "permalink": asked.link()}
        return render("picture_search.html", values)

    return routes


def api(searching: PictureSearch) -> APIRouter:
    """Its JSON twin."""
    routes = APIRouter(dependencies=VIEWERS)

    @routes.post("/api/v1/search/picture", openapi_extra=FORM)
    async def found(request: Request, person: Who) -> dict[str, Any]:
        """Originals and uploads that a picture is near to, or shares parts with, the surest first."""
        sought, matches, tenant = await searching.find(request, person)
        return {
            "tenant": tenant,
            "sha256": sought.image.sha256,
            "pdq": sought.fingerprint.pdq,
            "pdq_quality": sought.fingerprint.pdq_quality,
            "notes": list(sought.notes),
            "matches": [match.as_json() for match in matches],
            "search": Asked(pdq=sought.fingerprint.pdq, tenant=tenant).link("/api/v1/search"),
        }

    return routes


def _match(candidate: Candidate, by: By, verdicts: list[VerdictReached]) -> Match:
    of_content = tuple(each for each in verdicts if each.image is not None and each.image.sha256 == candidate.sha256)
    return Match(
        picture_id=candidate.original_id,
        sha256=candidate.sha256,
        trusted=candidate.trusted,
        source=candidate.source,
        distance=candidate.distance,
        by=by,
        inliers=candidate.inliers if by == "contents" else None,
        overlap=candidate.overlap if by == "contents" else None,
        verdicts=of_content,
    )
