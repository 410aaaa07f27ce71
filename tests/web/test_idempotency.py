"""Idempotency keys: done once, answered the same; another request or one in work is refused; uploads have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from services.clients.answers import AnswerKey, GoAhead, InWork, KeptAnswers
from services.clients.database import Database
from services.core.access import Person, Role
from services.core.envelope import decode
from services.core.events import ImageUploaded
from services.core.topology import UPLOADS
from services.web.idempotency import OncePerKey, fingerprint_of
from services.web.parts import Parts
from services.web.problems import Refused, answer
from tests.web.conftest import Gallery, calling, photo


class Thing(BaseModel):
    name: str
    number: int = 0


@dataclass
class Works:
    """A route that counts; it waits while `hold` is set, and fails while `broken` is."""

    done: int = 0
    broken: bool = False
    hold: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def works() -> Works:
    return Works()


@pytest.fixture
async def things(database: Database, works: Works) -> AsyncIterator[httpx.AsyncClient]:
    """An app of one route; the person is named by a header."""
    routes = APIRouter(route_class=OncePerKey)

    @routes.post("/things/{place}", status_code=201)
    async def make(place: str, wanted: Thing) -> Thing:
        works.entered.set()
        if works.hold is not None:
            await works.hold.wait()
        if works.broken:
            raise Refused(503, "away", "not now")
        works.done += 1
        return Thing(name=wanted.name, number=works.done)

    app = FastAPI()
    app.state.answers = KeptAnswers(database)
    app.include_router(routes)

    @app.exception_handler(Refused)
    async def answered(request: Request, error: Refused) -> Response:
        return answer(request, error.problem)

    @app.middleware("http")
    async def known(request: Request, call: object) -> Response:
        request.state.person = Person(request.headers.get("x-person", "ada"), "A", Role.VIEWER)
        return await call(request)  # type: ignore[operator,no-any-return]

    async with calling(app) as opened:
        yield opened


def key(word: str | None = None) -> dict[str, str]:
    return {"idempotency-key": word or uuid4().hex}


async def test_the_same_request_is_done_once_and_answered_the_same(things: httpx.AsyncClient, works: Works) -> None:
    mine = key()
    first = await things.post("/things/a", json={"name": "x"}, headers=mine)
    again = await things.post("/things/a", json={"name": "x"}, headers=mine)
    quoted = {"idempotency-key": f'"{mine["idempotency-key"]}"'}  # as the draft writes keys
    once_more = await things.post("/things/a", json={"name": "x"}, headers=quoted)
    assert first.status_code == again.status_code == once_more.status_code == 201
    assert first.content == again.content == once_more.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert works.done == 1


async def test_without_a_key_every_request_is_done(things: httpx.AsyncClient, works: Works) -> None:
    for _ in range(2):
        await things.post("/things/a", json={"name": "x"})
    assert works.done == 2


async def test_a_key_is_one_persons_and_one_paths(things: httpx.AsyncClient, works: Works) -> None:
    mine = key()
    await things.post("/things/a", json={"name": "x"}, headers=mine)
    await things.post("/things/b", json={"name": "x"}, headers=mine)
    await things.post("/things/a", json={"name": "x"}, headers={**mine, "x-person": "bo"})
    assert works.done == 3


async def test_another_request_with_the_same_key_is_refused(things: httpx.AsyncClient, works: Works) -> None:
    mine = key()
    await things.post("/things/a", json={"name": "x"}, headers=mine)
    other = await things.post("/things/a", json={"name": "y"}, headers=mine)
    assert (other.status_code, other.json()["type"]) == (422, "urn:pentimento:problem:key_reused")
    assert works.done == 1


async def test_while_the_first_is_in_work_the_second_is_refused(things: httpx.AsyncClient, works: Works) -> None:
    mine, works.hold = key(), asyncio.Event()
    first = asyncio.create_task(things.post("/things/a", json={"name": "x"}, headers=mine))
    await works.entered.wait()
    second = await things.post("/things/a", json={"name": "x"}, headers=mine)
    assert (second.status_code, second.json()["type"]) == (409, "urn:pentimento:problem:in_work")
    works.hold.set()
    assert (await first).status_code == 201
    assert works.done == 1


async def test_of_many_at_once_one_is_done(things: httpx.AsyncClient, works: Works) -> None:
    mine = key()
    answers = await asyncio.gather(*(things.post("/things/a", json={"name": "x"}, headers=mine) for _ in range(20)))
    assert {each.status_code for each in answers} <= {201, 409}
    assert works.done == 1


async def test_what_failed_may_be_asked_again(things: httpx.AsyncClient, works: Works) -> None:
    mine, works.broken = key(), True
    assert (await things.post("/things/a", json={"name": "x"}, headers=mine)).status_code == 503
    assert (await things.post("/things/a", json={"name": 7}, headers=mine)).status_code == 422
    works.broken = False
    assert (await things.post("/things/a", json={"name": "x"}, headers=mine)).status_code == 201


@pytest.mark.parametrize("word", [" ", "a b", "x" * 256, '""'])
async def test_what_is_no_key_is_refused(things: httpx.AsyncClient, works: Works, word: str) -> None:
    refused = await things.post("/things/a", json={"name": "x"}, headers=key(word))
    assert refused.status_code == 400
    assert works.done == 0


async def test_a_key_is_forgotten_after_a_day_and_taken_over_from_a_request_that_died(database: Database) -> None:
    answers, name = KeptAnswers(database), AnswerKey("ada", "/x", uuid4().hex)
    first = await answers.begin(name, "f", keep_s=86_400, lease_s=120)
    assert isinstance(first, GoAhead)
    assert isinstance(await answers.begin(name, "f", keep_s=86_400, lease_s=120), InWork)
    second = await answers.begin(name, "f", keep_s=86_400, lease_s=0)
    assert isinstance(second, GoAhead)
    await answers.give_back(first)  # the dead one comes to: the key is not its own any more
    assert isinstance(await answers.begin(name, "f", keep_s=86_400, lease_s=120), InWork)
    assert isinstance(await answers.begin(name, "g", keep_s=0, lease_s=120), GoAhead)


def test_a_fingerprint_tells_where_one_part_ends() -> None:
    assert fingerprint_of("ab", "c") != fingerprint_of("a", "bc")
    assert fingerprint_of(None) != fingerprint_of("")
    assert fingerprint_of("a", b"b") == fingerprint_of("a", b"b")


async def test_an_upload_with_a_key_is_one_event_whatever_its_boundaries(
    client: httpx.AsyncClient, parts: Parts, gallery: Gallery
) -> None:
    mine, data = key(), photo(411)

    async def upload(picture: bytes, boundary: str) -> httpx.Response:
        headers = {**mine, "content-type": f"multipart/form-data; boundary={boundary}"}
        files = {"image": ("a.jpg", picture)}
        return await client.post("/api/v1/uploads", files=files, data={"tenant": gallery.tenant}, headers=headers)

    first, again = await upload(data, "aaaa"), await upload(data, "bbbb")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()  # the same upload id, which nobody chose
    assert again.headers["location"] == first.headers["location"]
    assert (await upload(photo(412), "aaaa")).status_code == 422
    events = [
        decode(message, ImageUploaded)
        async for message in parts.reader.read(UPLOADS, from_beginning=True, until_end=True)
    ]
    assert [each.upload_id for each in events if each.tenant == gallery.tenant] == [first.json()["upload_id"]]
