"""What is kept of people who review: how they want pictures shown, what they have seen today, the masks they draw.

In: a person. Out: their choices, their exposure, and masks of theirs that a decision may name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from services.clients.database import Database
from services.clients.review_claims import CLOSED, NOT_YOURS
from services.clients.review_rows import Member, Refusal, member_of
from services.core.access import Person
from services.core.review.quality import Exposure

Theme = Literal["system", "light", "dark"]


@dataclass(frozen=True, slots=True)
class Choices:
    """How somebody wants pictures shown. None: as the organisation does. `opacity` of the mask is 0..1."""

    blur: bool | None = None
    greyscale: bool | None = None
    opacity: float | None = None
    theme: Theme | None = None


class ReviewPeople:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def choices(self, person: Person) -> Choices:
        """What a person has chosen."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_CHOICES, {"person": person.subject})).fetchone()
        return Choices() if row is None else Choices(**{name: row[name] for name in Choices.__slots__})

    async def choose(self, person: Person, choices: Choices) -> None:
        """Keep what a person chooses, in place of all that they chose before."""
        query = {name: getattr(choices, name) for name in Choices.__slots__}
        async with self._database.connection() as connection:
            await connection.execute(_CHOOSE, {"person": person.subject, **query})

    async def exposure(
        self, person: Person, *, cases_limit: int | None, minutes_limit: float | None, now: datetime
    ) -> Exposure:
        """How many cases a person has had before them since midnight UTC, and how long."""
        midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        async with self._database.connection() as connection:
            query = {"person": person.subject, "since": midnight}
            row = await (await connection.execute(_EXPOSURE, query)).fetchone()
        cases, minutes = (row["cases"], float(row["minutes"])) if row else (0, 0.0)
        return Exposure(cases, minutes, cases_limit, minutes_limit)

    async def drawable(self, person: Person, case_id: str, upload_id: str | None) -> Member | Refusal:
        """The member of a case that a person has before them and wants to draw on: by default the one that is shown."""
        query = {"person": person.subject, "id": case_id, "upload_id": upload_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_DRAWABLE, query)).fetchone()
        if row is None:
            return NOT_YOURS
        return member_of(row) if row["state"] == "open" else CLOSED

    async def drew(self, person: Person, case_id: str, member: Member, mask_key: str, *, now: datetime) -> None:
        """Keep that a person drew a mask for a member of a case."""
        query = {"person": person.subject, "id": case_id, "mask_key": mask_key, "now": now}
        async with self._database.connection() as connection:
            await connection.execute(_DREW, query | {"upload_id": member.upload_id, "sha256": member.sha256})

    async def drawn_on(self, person: Person, case_id: str, mask_key: str) -> str | None:
        """The content that a person drew a mask on, in this case; None where they drew none such."""
        query: dict[str, Any] = {"person": person.subject, "id": case_id, "mask_key": mask_key}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_DRAWN_ON, query)).fetchone()
        return None if row is None else str(row["sha256"])


_CHOICES = "select * from review_person where person = %(person)s"
_CHOOSE = """
insert into review_person (person, blur, greyscale, opacity, theme)
values (%(person)s, %(blur)s, %(greyscale)s, %(opacity)s, %(theme)s)
on conflict (person) do update
    set blur = excluded.blur, greyscale = excluded.greyscale, opacity = excluded.opacity, theme = excluded.theme
"""
_EXPOSURE = """
select count(distinct case_id) as cases,
       coalesce(sum(extract(epoch from greatest(coalesce(ended_at, seen_at) - claimed_at, '0'))), 0) / 60 as minutes
from review_claim where person = %(person)s and claimed_at >= %(since)s
"""
_DRAWABLE = """
select review_member.* from review_case join review_member on case_id = review_case.id
    and review_member.upload_id = coalesce(%(upload_id)s, review_case.upload_id)
where review_case.id = %(id)s and review_case.state = 'open' and locked_by = %(person)s
"""
_DREW = """
insert into review_mask (case_id, mask_key, tenant, upload_id, sha256, person, drawn_at)
select id, %(mask_key)s, tenant, %(upload_id)s, %(sha256)s, %(person)s, %(now)s from review_case where id = %(id)s
on conflict do nothing
"""
_DRAWN_ON = """
select sha256 from review_mask
where case_id = %(id)s and mask_key = %(mask_key)s and person = %(person)s order by drawn_at desc limit 1
"""
