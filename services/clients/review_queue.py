"""The queue of review cases, read: pages by rank, one case, its members, its notes.

In: who asks, filters, cursors. Out: cases as that person may see them. Nothing is locked here. Paging is by key, each
filter has its index: a page costs the same however many cases are open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.database import Database
from services.clients.review_rows import CASE, VISIBLE, Case, Member, case_of, member_of, viewer
from services.core.access import Person
from services.core.review.cases import Kind

COUNTED = 10_000  # a hundred thousand rows take longer to count than anybody should wait for a page


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which open cases. None asks for all; conditions add up."""

    tenant: str | None = None
    kind: Kind | None = None
    escalated: bool | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """The case after which a page begins."""

    rank: float
    id: str


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody said of a case to whoever decides it."""

    kind: str
    by: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many cases wait for somebody, counted up to `COUNTED`, and since when the oldest does."""

    open: int
    more: bool
    oldest_at: datetime | None


class ReviewQueue:
    """Reads cases. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, person: Person, chosen: CaseFilter, *, limit: int, after: Place | None, now: datetime
    ) -> list[Case]:
        """Open cases, the most urgent first, from after a place on; those that somebody has before them included."""
        where, query = waiting_for(person, chosen)
        if after is not None:
            where.append("(review_case.rank, review_case.id) < (%(after_rank)s, %(after_id)s::uuid)")
            query |= {"after_rank": after.rank, "after_id": after.id}
        statement = f"{CASE} where {' and '.join(where)} order by review_case.rank desc, review_case.id desc {_LIMIT}"
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, {**query, "limit": limit})).fetchall()
        return [case_of(row, person, now) for row in rows]

    async def waiting(self, person: Person, chosen: CaseFilter) -> Waiting:
        """How many open cases there are for a person: exactly so many, or more than are counted."""
        where, query = waiting_for(person, chosen)
        conditions = " and ".join(where)
        async with self._database.connection() as connection:
            counted = await (await connection.execute(_COUNT.format(where=conditions), query)).fetchone()
            oldest = await (await connection.execute(_OLDEST.format(where=conditions), query)).fetchone()
        cases = counted["cases"] if counted else 0
        return Waiting(min(cases, COUNTED), cases > COUNTED, oldest["opened_at"] if oldest else None)

    async def mine(self, person: Person, *, now: datetime) -> list[Case]:
        """The cases that a person has before them; those whose lock has expired are not theirs any more."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_MINE, {**viewer(person), "now": now})).fetchall()
        return [case_of(row, person, now) for row in rows]

    async def case(self, person: Person, case_id: str, *, now: datetime) -> tuple[Case, list[Note]] | None:
        """One case, and its notes for leads; None where there is none that the person may see."""
        query = {**viewer(person), "id": case_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ONE, query)).fetchone()
            notes = await (await connection.execute(_NOTES, query)).fetchall() if row and query["lead"] else []
        if row is None:
            return None
        return case_of(row, person, now), [Note(each["kind"], each["name"], each["note"], each["at"]) for each in notes]

    async def members(self, case_id: str, *, limit: int, after: str | None) -> tuple[list[Member], int]:
        """Members of a case by their upload id, from after one on; and how many there are in all."""
        query = {"id": case_id, "limit": limit, "after": after}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_MEMBERS, query)).fetchall()
            total = await (await connection.execute(_SIZE, query)).fetchone()
        return [member_of(row) for row in rows], total["members"] if total else 0


_LIMIT = "limit %(limit)s"
_COUNT = f"select count(*) as cases from (select 1 from review_case where {{where}} limit {COUNTED + 1}) as counted"
_OLDEST = "select opened_at from review_case where {where} order by opened_at limit 1"
_MINE = f"""
{CASE} where locked_by = %(person)s and review_case.state = 'open' and locked_until > %(now)s
    and (%(tenants)s::text[] is null or review_case.tenant = any(%(tenants)s::text[]))
order by rank desc
"""
_ONE = f"{CASE} where review_case.id = %(id)s and {VISIBLE}"
_NOTES = "select * from review_note where case_id = %(id)s order by id"
_SIZE = "select count(*) as members from review_member where case_id = %(id)s"
_MEMBERS = """
select * from review_member where case_id = %(id)s and (%(after)s::text is null or upload_id > %(after)s)
order by upload_id limit %(limit)s
"""


def waiting_for(person: Person, chosen: CaseFilter) -> tuple[list[str], dict[str, Any]]:
    """Conditions on review_case for open cases that a person may decide: not those they have decided already, and
    escalated ones for leads alone. Cases with a known answer are in no queue.
    """
    query = viewer(person)
    where = ["review_case.state = 'open'", "honeypot is null", "first_by is distinct from %(person)s"]
    where.append("second_by is distinct from %(person)s")
    if not query["lead"]:
        where.append("not escalated")
    if query["tenants"] is not None:
        where.append("review_case.tenant = any(%(tenants)s)")
    asked: list[tuple[str, str, Any]] = [
        ("review_case.tenant = %(tenant)s", "tenant", chosen.tenant),
        ("kind = %(kind)s", "kind", chosen.kind),
        ("escalated" if chosen.escalated else "not escalated", "escalated", chosen.escalated),
    ]
    given = [(condition, name, value) for condition, name, value in asked if value is not None]
    return [*where, *(each for each, _, _ in given)], query | {name: value for _, name, value in given}
