"""Dead letters for people: what could not be handled, why, and on its way again.

In: the topic `dead-letters`, read when somebody looks. Out: a list, one letter with its value as text, and redriving,
one letter or all of a filter. A letter may hold anything of anybody, so it is shown to leads that may see every tenant;
only administrators redrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from services.clients.dead_letters import redrive, waiting_letters
from services.core.access import Person, Role
from services.core.events import DeadLetter
from services.core.letters import facts, preview
from services.web.access import Who, at_least
from services.web.kept import Kept
from services.web.pages import render
from services.web.paging import Limit, Place, cut, following, moment_and_id, read_place, write_place
from services.web.parts import Parts
from services.web.problems import Refused

LETTERS_S = 5.0
PAGE = 50
AT_ONCE = 200  # letters that one request redrives; whoever has more asks again
RATE = 100.0  # a second
Word = Annotated[str | None, Query(max_length=100)]


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which letters; None asks for all."""

    topic: str | None = None
    kind: str | None = None
    group: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        asked = ((self.topic, letter.source_topic), (self.kind, letter.kind), (self.group, letter.group))
        return all(wanted in (None, "", found) for wanted, found in asked)


class Redriving(BaseModel):
    """Which letters to send again: by their whole ids, or all that fit."""

    ids: Annotated[list[str], Field(max_length=AT_ONCE)] = []
    all: bool = False
    topic: str | None = None
    kind: str | None = None
    group: str | None = None


class Letters:
    """The letters that wait, and the one who redrives them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting = Kept(lambda: waiting_letters(parts.reader), ttl_s=LETTERS_S)
        self._alone = asyncio.Lock()

    async def newest(self, sieve: Sieve) -> list[DeadLetter]:
        """Those that fit, the newest first."""
        waiting = (await self._waiting.get()).oldest_first()
        return [letter for letter in reversed(waiting) if sieve.fits(letter)]

    async def page(self, sieve: Sieve, limit: int, cursor: str | None) -> tuple[list[DeadLetter], str | None, int]:
        """Some of those that fit, the cursor of the next ones, and how many there are in all. Raises Refused (422)."""
        every = await self.newest(sieve)
        before = None if cursor is None else read_place(cursor, moment_and_id)
        rest = every if before is None else [letter for letter in every if (letter.failed_at, letter.key()) < before]
        shown, place = cut(rest, limit, lambda last: write_place(last.failed_at.isoformat(), last.key()))
        return shown, place, len(every)

    async def one(self, letter_id: str) -> DeadLetter:
        """The letter of this id. Raises Refused (404)."""
        found = [letter for letter in await self.newest(Sieve()) if letter.key() == letter_id]
        if not found:
            raise Refused(404, "no_dead_letter", f"No dead letter {letter_id!r} is waiting.")
        return found[0]

    async def redrive(self, person: Person, asked: Redriving) -> list[str]:
        """Sends at most `AT_ONCE` of them again, the oldest first; their ids. Raises Unavailable in the middle."""
        sieve = Sieve(asked.topic, asked.kind, asked.group)
        sent: list[str] = []
        async with self._alone:
            self._waiting.forget()
            waiting = list(reversed(await self.newest(sieve)))
            chosen = [letter for letter in waiting if asked.all or letter.key() in asked.ids][:AT_ONCE]
            await self._parts.audit.record(
                person, "dead_letters_redriven", details={"ids": [each.key() for each in chosen], **_words(sieve)}
            )
            try:
                await redrive(self._parts.sender, chosen, rate=RATE, sent=lambda letter: sent.append(letter.key()))
            finally:
                self._waiting.forget()
        return sent


def pages(letters: Letters) -> APIRouter:
    """The list, one letter, and the button."""
    routes = APIRouter(
        default_response_class=HTMLResponse, include_in_schema=False, dependencies=[Depends(_all_tenants)]
    )

    @routes.get("/overview/dead-letters")
    async def listed(
        person: Who,
        topic: Word = None,
        kind: Word = None,
        group: Word = None,
        cursor: Place = None,
        redriven: Annotated[int | None, Query(ge=0)] = None,
    ) -> HTMLResponse:
        sieve = Sieve(topic or None, kind or None, group or None)
        shown, place, total = await letters.page(sieve, PAGE, cursor)
        values = {
            "letters": shown,
            "total": total,
            "newest": cursor is None,
            "following": place,
            "sieve": sieve,
            "query": _words(sieve),
            "choices": _choices(await letters.newest(Sieve())),
            "redriven": redriven,
            "admin": person.may(Role.ADMIN),
            "at_once": AT_ONCE,
        }
        return render("dead_letters.html", values)

    @routes.get("/overview/dead-letters/{letter_id}")
    async def one(person: Who, letter_id: str) -> HTMLResponse:
        letter = await letters.one(letter_id)
        values = {"letter": letter, "value": preview(letter.source_value), "admin": person.may(Role.ADMIN)}
        return render("dead_letter.html", values)

    @routes.post("/overview/dead-letters/redrive")
    async def again(
        person: Annotated[Person, Depends(at_least(Role.ADMIN))],
        ids: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
        every: Annotated[bool, Form(alias="all")] = False,
        topic: Annotated[str, Form()] = "",
        kind: Annotated[str, Form()] = "",
        group: Annotated[str, Form()] = "",
    ) -> RedirectResponse:
        asked = Redriving(ids=ids, all=every, topic=topic or None, kind=kind or None, group=group or None)
        sent = await letters.redrive(person, asked)
        return RedirectResponse(f"/overview/dead-letters?redriven={len(sent)}", 303)

    return routes


def api(letters: Letters) -> APIRouter:
    """Their JSON twins."""
    routes = APIRouter(prefix="/api/v1/overview/dead-letters", dependencies=[Depends(_all_tenants)])

    @routes.get("")
    async def listed(
        request: Request,
        topic: Word = None,
        kind: Word = None,
        group: Word = None,
        limit: Limit = PAGE,
        cursor: Place = None,
    ) -> dict[str, Any]:
        """The dead letters that wait, the newest first, without their values."""
        shown, place, total = await letters.page(Sieve(topic, kind, group), limit, cursor)
        body: dict[str, Any] = {"total": total, "letters": [facts(letter, whole=False) for letter in shown]}
        return body | ({} if place is None else {"next_cursor": place, "next": following(request, place)})

    @routes.get("/{letter_id}")
    async def one(letter_id: str) -> dict[str, object]:
        """One letter, with the original message in base64."""
        return facts(await letters.one(letter_id), whole=True)

    @routes.post("/redrive")
    async def again(person: Annotated[Person, Depends(at_least(Role.ADMIN))], asked: Redriving) -> dict[str, Any]:
        """Sends original messages again, with the same ids: the letters named, or all that fit (200 at a time)."""
        if bool(asked.ids) == asked.all:
            raise Refused(422, "invalid_request", "Name the letters in `ids`, or say `all`.")
        sent = await letters.redrive(person, asked)
        return {"redriven": sent, "left": len(await letters.newest(Sieve(asked.topic, asked.kind, asked.group)))}

    return routes


def _all_tenants(person: Annotated[Person, Depends(at_least(Role.LEAD))]) -> None:
    if person.tenants is not None:
        raise Refused(404, "not_found", "There are no dead letters that you may see.")


def _words(sieve: Sieve) -> dict[str, str]:
    given = {"topic": sieve.topic, "kind": sieve.kind, "group": sieve.group}
    return {name: value for name, value in given.items() if value}


def _choices(letters: Sequence[DeadLetter]) -> dict[str, list[str]]:
    return {
        "topic": sorted({letter.source_topic for letter in letters}),
        "kind": sorted({letter.kind for letter in letters}),
        "group": sorted({letter.group for letter in letters}),
    }
