"""The evidence behind a verdict: what stands on its page, under `/review`, and as JSON.

In: a tenant and an upload id, with a revision where not the newest is meant. Out: a fragment of a page, a whole page,
or JSON. File facts come by themselves a moment later: for them the stored bytes are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from services.clients.cases import VerdictFilter, Verdicts
from services.core.access import Person
from services.core.events import Path, VerdictReached
from services.core.file_facts import FileFacts, read_file_facts
from services.core.policy import Policy
from services.core.reading import Thresholds, qes_in_words, score_in_words, thresholds
from services.web.access import Who
from services.web.pages import render
from services.web.parts import Options, Parts
from services.web.pictures import can_be_aligned
from services.web.problems import Refused
from services.web.verdicts import READERS, at_revision, history

MOST_RELATED = 12

Revision = Annotated[int | None, Query(ge=0, description="Which revision; the newest unless given.")]
Blind = Annotated[bool, Query(description="Without what people decided: for whoever is to decide.")]


class Evidence(BaseModel):
    """A verdict with what it takes to read it. `same_picture` and `same_original` are other uploads, newest first."""

    verdict: VerdictReached
    aligned: bool
    thresholds: Thresholds | None
    same_picture: list[VerdictReached]
    same_original: list[VerdictReached]


@dataclass(frozen=True, slots=True)
class Related:
    """Other uploads of the same picture, and of other pictures made from the same original."""

    same_picture: list[VerdictReached]
    same_original: list[VerdictReached]


def pages(parts: Parts, options: Options) -> APIRouter:
    """The page of a verdict, and its parts."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False, dependencies=READERS)

    # An upload id may contain slashes, hence `:path`.
    @routes.get("/verdicts/{tenant}/{upload_id:path}")
    async def page(person: Who, tenant: str, upload_id: str) -> HTMLResponse:
        revisions = await history(parts.verdicts, person, tenant, upload_id)
        related = await _related(parts.verdicts, revisions[-1], blind=False)
        return render("verdict.html", _values(revisions, related, options.policy, blind=False))

    @routes.get("/evidence/view/{tenant}/{upload_id:path}")
    async def fragment(
        person: Who, tenant: str, upload_id: str, r: Revision = None, blind: Blind = False
    ) -> HTMLResponse:
        revisions = at_revision(await history(parts.verdicts, person, tenant, upload_id), r)
        related = await _related(parts.verdicts, revisions[-1], blind=blind)
        return render("evidence.html", _values(revisions, related, options.policy, blind=blind))

    @routes.get("/evidence/file/{tenant}/{upload_id:path}")
    async def file(person: Who, tenant: str, upload_id: str) -> HTMLResponse:
        facts = await _file_facts(parts, options, person, tenant, upload_id)
        return render("file_facts.html", {"facts": facts})

    return routes


def api(parts: Parts, options: Options) -> APIRouter:
    """Their JSON twins."""
    routes = APIRouter(prefix="/api/v1", tags=["evidence"], dependencies=READERS)

    @routes.get("/evidence/{tenant}/{upload_id:path}", summary="A verdict with what it takes to read it")
    async def evidence(person: Who, tenant: str, upload_id: str, r: Revision = None, blind: Blind = False) -> Evidence:
        verdict = at_revision(await history(parts.verdicts, person, tenant, upload_id), r)[-1]
        related = await _related(parts.verdicts, verdict, blind=blind)
        return Evidence(
            verdict=verdict,
            aligned=can_be_aligned(verdict),
            thresholds=thresholds(verdict, options.policy),
            same_picture=related.same_picture,
            same_original=related.same_original,
        )

    @routes.get("/file-facts/{tenant}/{upload_id:path}", summary="What an upload's file says about itself")
    async def file_facts(person: Who, tenant: str, upload_id: str) -> FileFacts:
        return await _file_facts(parts, options, person, tenant, upload_id)

    return routes


def _values(revisions: list[VerdictReached], related: Related, policy: Policy, *, blind: bool) -> Mapping[str, Any]:
    """What the templates need. `blind` leaves out the revisions: one of them may be what a person decided."""
    verdict = revisions[-1]
    lines = thresholds(verdict, policy)
    return {
        "verdict": verdict,
        "revisions": revisions,
        "blind": blind,
        "aligned": can_be_aligned(verdict),
        "lines": lines,
        "score_words": score_in_words(verdict, lines) if lines else "",
        "qes_words": qes_in_words(verdict.mask.qes, policy.least_qes) if verdict.mask else "",
        "related": related,
    }


async def _related(verdicts: Verdicts, verdict: VerdictReached, *, blind: bool) -> Related:
    """Newest first. `blind` leaves out what people decided."""
    same_picture: list[VerdictReached] = []
    same_original: list[VerdictReached] = []
    if verdict.image is not None:
        chosen = VerdictFilter(tenant=verdict.tenant, sha256=verdict.image.sha256)
        same_picture = await verdicts.find(chosen, limit=MOST_RELATED + 1)
    if verdict.candidate is not None:
        chosen = VerdictFilter(tenant=verdict.tenant, candidate_id=verdict.candidate.original_id)
        same_original = await verdicts.find(chosen, limit=2 * MOST_RELATED)
    known = {verdict.upload_id, *(each.upload_id for each in same_picture)}

    def shown(found: list[VerdictReached], without: set[str]) -> list[VerdictReached]:
        kept = [each for each in found if each.upload_id not in without and not (blind and each.path is Path.REVIEWED)]
        return kept[:MOST_RELATED]

    return Related(shown(same_picture, {verdict.upload_id}), shown(same_original, known))


async def _file_facts(parts: Parts, options: Options, person: Person, tenant: str, upload_id: str) -> FileFacts:
    """Read from the stored bytes. Raises Refused (404) for an upload that was rejected."""
    verdict = (await history(parts.verdicts, person, tenant, upload_id))[-1]
    if verdict.image is None:
        raise Refused(404, "no_picture", f"Upload {upload_id!r} was rejected: no file of it is kept.")
    data = await parts.objects.get(verdict.image.object_key, options.max_bytes)
    return await asyncio.to_thread(read_file_facts, data, max_pixels=options.max_pixels)
