"""Verdicts, searched by whatever a person knows of an upload.

In: a `Search`, whose conditions add up. Out: the newest revisions that fit, newest first, page by page; and how many
there are, counted no further than a limit, so that a question for everything is as quick as one for nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.clients.cases import Cursor
from services.clients.database import Database
from services.core.events import Decision, Path, VerdictReached

COUNTED_AT_MOST: Final = 1000
BATCH: Final = 500  # verdicts that an export reads at once


@dataclass(frozen=True, slots=True)
class Search:
    """What is known. None asks for all, an empty tuple for none.

    `upload_id` and `filename` are beginnings, the latter in any case; `original_id` is whole. `contents` are SHA-256,
    `judged` and `score` are from (inclusive) and until (exclusive for times, inclusive for scores).
    """

    tenants: tuple[str, ...] | None = None
    upload_id: str | None = None
    contents: tuple[str, ...] | None = None
    original_id: str | None = None
    filename: str | None = None
    decisions: tuple[Decision, ...] | None = None
    paths: tuple[Path, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    score_min: float | None = None
    score_max: float | None = None


class Searches:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, search: Search, *, limit: int, before: Cursor | None = None) -> list[VerdictReached]:
        """At most `limit` verdicts, newest `judged_at` first, from after `before` on."""
        conditions, query = _conditions(search)
        if before is not None:
            conditions.append("(judged_at, tenant, upload_id) < (%(at)s, %(at_tenant)s, %(at_upload_id)s)")
            query |= {"at": before.judged_at, "at_tenant": before.tenant, "at_upload_id": before.upload_id}
        statement = _FIND.format(where=_where(conditions))
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query | {"limit": limit})).fetchall()
        return [VerdictReached.model_validate_json(row["event"]) for row in rows]

    async def count(self, search: Search) -> int:
        """How many fit; `COUNTED_AT_MOST + 1` says that there are more."""
        where, query = conditions_of(search)
        statement = _COUNT.format(where=where)
        async with self._database.connection() as connection:
            row = await (await connection.execute(statement, query | {"limit": COUNTED_AT_MOST + 1})).fetchone()
        return int(row["verdicts"]) if row else 0

    async def every(self, search: Search, *, before: Cursor | None = None) -> AsyncGenerator[VerdictReached, None]:
        """All that fit, in the same order. A verdict that is revised meanwhile moves to the front, and is not met."""
        while found := await self.find(search, limit=BATCH, before=before):
            for verdict in found:
                yield verdict
            if len(found) < BATCH:
                return
            before = Cursor.after(found[-1])


# The keys first, by index, and then the events of those few.
_FIND = """
with page as materialized (
    select tenant, upload_id from verdict {where} order by judged_at desc, tenant desc, upload_id desc limit %(limit)s
)
select verdict.event from page join verdict using (tenant, upload_id)
order by verdict.judged_at desc, tenant desc, upload_id desc
"""
_COUNT = "select count(*) as verdicts from (select 1 from verdict {where} limit %(limit)s) as counted"


def conditions_of(search: Search) -> tuple[str, dict[str, Any]]:
    """A search as the condition of a statement, and its values."""
    conditions, query = _conditions(search)
    return _where(conditions), query


def _conditions(search: Search) -> tuple[list[str], dict[str, Any]]:
    asked: list[tuple[str, str, Any]] = [
        ("tenant = any(%(tenants)s)", "tenants", _texts(search.tenants)),
        ("upload_id like %(upload_id)s", "upload_id", _beginning(search.upload_id)),
        ("sha256 = any(%(contents)s)", "contents", _texts(search.contents)),
        ("candidate_id = %(original_id)s", "original_id", search.original_id),
        ("lower(filename) like %(filename)s", "filename", _beginning(search.filename, lower=True)),
        ("decision = any(%(decisions)s)", "decisions", _texts(search.decisions)),
        ("path = any(%(paths)s)", "paths", _texts(search.paths)),
        ("judged_at >= %(since)s", "since", search.since),
        ("judged_at < %(until)s", "until", search.until),
        ("score >= %(score_min)s", "score_min", search.score_min),
        ("score <= %(score_max)s", "score_max", search.score_max),
    ]
    given = [(condition, name, value) for condition, name, value in asked if value is not None]
    return [condition for condition, _, _ in given], {name: value for _, name, value in given}


def _where(conditions: list[str]) -> str:
    return f"where {' and '.join(conditions)}" if conditions else ""


def _texts(chosen: tuple[str, ...] | None) -> list[str] | None:
    return None if chosen is None else [str(value) for value in chosen]


def _beginning(text: str | None, *, lower: bool = False) -> str | None:
    """The pattern of `like` for texts that begin so."""
    if text is None:
        return None
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped.lower() if lower else escaped}%"
