"""Search results as a file: CSV or JSON lines, streamed, so that it may be of any length.

In: a search. Out: a line a verdict, newest first. The last column is a cursor: given back, an export goes on after that
line. For leads, and written down in the audit log.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Query
from starlette.responses import StreamingResponse

from services.clients.audit import Audit
from services.clients.cases import Cursor
from services.clients.searching import Search
from services.core.access import Person, Role
from services.core.errors import PentimentoError
from services.core.export import heading, line, row
from services.web.access import at_least
from services.web.search import Question, Searching
from services.web.verdicts import read_cursor, write_cursor

log = structlog.get_logger()
Kind = Literal["csv", "jsonl"]
MEDIA_TYPES: dict[Kind, str] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
TOGETHER = 100  # lines of one piece


def router(searching: Searching, audit: Audit) -> APIRouter:
    """The one route."""
    routes = APIRouter()

    @routes.get("/api/v1/search/export", response_class=StreamingResponse)
    async def export(
        person: Annotated[Person, Depends(at_least(Role.LEAD))],
        asked: Question,
        kind: Annotated[Kind, Query(alias="format")] = "csv",
    ) -> StreamingResponse:
        """Every verdict that fits. `cursor` of a file's last line goes on where it was cut off."""
        search, _ = await searching.search(person, asked)
        before = None if asked.cursor is None else read_cursor(asked.cursor)
        # What was asked by, not the words: they may name uploads.
        details: dict[str, Any] = {"format": kind, "asked": sorted(asked.query())}
        await audit.record(person, "search_exported", tenant=asked.tenant, details=details)
        headers = {"content-disposition": f'attachment; filename="verdicts.{kind}"'}
        return StreamingResponse(_lines(searching, search, before, kind), media_type=MEDIA_TYPES[kind], headers=headers)

    return routes


async def _lines(searching: Searching, search: Search, before: Cursor | None, kind: Kind) -> AsyncGenerator[str, None]:
    lines = [heading()] if kind == "csv" and before is None else []
    try:
        async with aclosing(searching.searches.every(search, before=before)) as found:
            async for verdict in found:
                values = row(verdict, write_cursor(Cursor.after(verdict)))
                lines.append(line(values) if kind == "csv" else json.dumps(values, ensure_ascii=False) + "\n")
                if len(lines) >= TOGETHER:
                    yield "".join(lines)
                    lines.clear()
    except PentimentoError as error:
        # Half a file is out: cutting the connection is what tells the other side that it is not whole.
        log.warning("export_cut", why=str(error))
        raise
    yield "".join(lines)
