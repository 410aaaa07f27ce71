"""The overview: what it tells, to whom, and that a part that is away costs its own piece."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from services.clients.events import EventReader, KafkaConnection
from services.clients.feed import Arrival, Arrivals
from services.clients.library_state import Library
from services.clients.rounds import Rounds
from services.core import topology
from services.core.access import LOCAL, Person, Role
from services.core.envelope import Message, encode
from services.core.events import DeadLetter
from services.core.learn.rounds import Done, Options, Round
from services.web.app import create_app
from services.web.live import QUEUE, Feed, Listener, written
from services.web.parts import Parts
from services.web.problems import Refused
from tests.web.conftest import NOON, OPTIONS, Gallery, calling, listening

LEAD = {"accept": "text/html"}


async def test_verdicts_are_counted_by_hour_decision_and_tenant(client: httpx.AsyncClient, gallery: Gallery) -> None:
    now = datetime.now(UTC)
    await gallery.manipulated("forged", 11, judged_at=now)
    await gallery.no_evidence("clean", 12, judged_at=now)
    await gallery.rejected("earlier", judged_at=now - timedelta(hours=30))
    query = {"tenant": gallery.tenant, "hours": "24"}
    counted = (await client.get("/api/v1/overview/verdicts", params=query)).json()
    assert len(counted["starts"]) == 24
    assert {kind["name"]: sum(kind["verdicts"]) for kind in counted["kinds"]} == {
        "manipulated": 1, "no_evidence": 1, "inconclusive": 0, "rejected": 0,
    }  # fmt: skip
    days = (await client.get("/api/v1/overview/verdicts", params=query | {"hours": "96", "every": "day"})).json()
    assert days["total"] == 3
    by_tenant = (await client.get("/api/v1/overview/verdicts", params=query | {"by": "tenant"})).json()
    assert [(kind["name"], sum(kind["verdicts"])) for kind in by_tenant["kinds"]] == [(gallery.tenant, 2)]


async def test_the_parts_say_what_answers_and_what_waits(client: httpx.AsyncClient) -> None:
    told = (await client.get("/api/v1/overview/parts")).json()
    assert {part["name"]: part["works"] for part in told["parts"] if part["name"] != "Index"} == {
        "Kafka": True, "PostgreSQL": True, "Object store": True,
    }  # fmt: skip
    groups = {group["name"]: group for group in told["groups"]}
    assert set(groups) == {"intake", "judge", "learn"}
    assert groups["intake"]["processes"] == 0
    assert [topic["topic"] for topic in groups["intake"]["topics"]] == [topology.UPLOADS, topology.ORIGINALS]


async def test_without_kafka_the_overview_still_says_what_it_knows(parts: Parts) -> None:
    nowhere = EventReader(KafkaConnection("127.0.0.1:1"), timeout_s=1)
    async with calling(create_app(replace(parts, reader=nowhere), OPTIONS)) as client:
        piece = await client.get("/overview/parts")
        assert piece.status_code == 200
        assert "does not answer" in piece.text
        assert (await client.get("/overview")).status_code == 200
        assert (await client.get("/overview/dead-letters", headers=LEAD)).status_code == 503


async def turned(parts: Parts, report_key: str) -> Round:
    """A round of the learning loop whose challenger the gate refused."""
    rounds = Rounds(parts.database)
    at = await rounds.begin(Options(photos=("photos",), registry="registry", work="work"))
    for done in (Done(), Done(new_samples=240), Done(dataset="v1"), Done(champion="a", challenger="b")):
        at = await rounds.record(at, done)
    return await rounds.record(at, Done(report_key=report_key, decision="refused", reason="<b>worse</b>"))


async def test_the_pieces_tell_of_models_library_and_rounds(
    client: httpx.AsyncClient, parts: Parts, gallery: Gallery
) -> None:
    report = f"<h1>gate</h1><script>alert(1)</script>{gallery.tenant}"
    await parts.objects.put(f"rounds/{gallery.tenant}/report.html", report.encode(), "text/html")
    at = await turned(parts, f"rounds/{gallery.tenant}")
    piece = (await client.get("/overview/learning")).text
    assert "&lt;b&gt;worse&lt;/b&gt;" in piece
    assert f"/overview/rounds/{at.id}/report" in piece
    page = await client.get(f"/overview/rounds/{at.id}/report")
    assert page.text == report
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "script" not in page.headers["content-security-policy"]
    assert (await client.get("/overview/rounds/999999/report")).status_code == 404
    assert (await client.get(f"/overview/rounds/{2**63}/report")).status_code == 422
    told = (await client.get("/api/v1/overview/rounds")).json()["rounds"]
    assert told[0]["decision"] == "refused"
    assert "Policy" in (await client.get("/overview/models")).text
    assert "Originals" in (await client.get("/overview/library")).text
    assert (await Library(parts.database).state((gallery.tenant,))).originals == 0


async def test_rounds_are_listed_page_by_page(client: httpx.AsyncClient, parts: Parts, gallery: Gallery) -> None:
    made = [(await turned(parts, f"rounds/{gallery.tenant}")).id for _ in range(3)]
    seen: list[int] = []
    address: str | None = "/api/v1/overview/rounds?limit=2"
    while address is not None:
        page = (await client.get(address)).json()
        assert len(page["rounds"]) <= 2
        seen += [each["id"] for each in page["rounds"]]
        address = page.get("next")
    assert seen[:3] == made[::-1]
    assert seen == sorted(set(seen), reverse=True)


# -- dead letters ----------------------------------------------------------------------------------------------------


async def buried(parts: Parts, value: bytes, upload_id: str) -> DeadLetter:
    """A dead letter on Kafka whose message would go to a topic that nobody reads here."""
    letter = DeadLetter(
        source_topic=topology.HARD_CASES,
        source_partition=0,
        source_offset=uuid4().int % 2**40,
        source_key=upload_id.encode(),
        source_headers=(("ce_id", b"<i>1</i>"),),
        source_value=value,
        group="judge",
        stage="judge/image-intakes",
        kind="broken",
        error_type="ValueError",
        message="<script>alert(1)</script>",
        attempts=2,
        upload_id=upload_id,
        failed_at=NOON,
    )
    await parts.sender.send(encode(letter, source="/test", time=NOON))
    return letter


async def arrived(parts: Parts, key: bytes) -> list[Message]:
    """What lies on the topic under a key."""
    reading = parts.reader.read(topology.HARD_CASES, until_end=True)
    return [message async for message in reading if message.key == key]


async def test_a_dead_letter_is_shown_escaped_and_redriven_with_its_own_bytes(
    client: httpx.AsyncClient, parts: Parts, gallery: Gallery
) -> None:
    letter = await buried(parts, b'{"note": "<img src=x onerror=alert(1)>"}', gallery.tenant)
    left = await buried(parts, b"\xff\x00", f"{gallery.tenant}-left")
    listed = (await client.get("/overview/dead-letters", params={"kind": "broken"}, headers=LEAD)).text
    assert "<script>alert" not in listed
    assert "&lt;script&gt;alert(1)" in listed
    page = (await client.get(f"/overview/dead-letters/{letter.key()}", headers=LEAD)).text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<i>1</i>" not in page
    told = await client.post("/api/v1/overview/dead-letters/redrive", json={"ids": [letter.key()]})
    assert told.json()["redriven"] == [letter.key()]
    (message,) = await arrived(parts, gallery.tenant.encode())
    assert (message.value, message.headers) == (letter.source_value, letter.source_headers)
    ids = [each["id"] for each in (await client.get("/api/v1/overview/dead-letters?limit=200")).json()["letters"]]
    assert letter.key() not in ids
    assert left.key() in ids


async def test_dead_letters_are_listed_page_by_page_while_others_are_redriven(parts: Parts, gallery: Gallery) -> None:
    letters = [await buried(parts, b"{}", f"{gallery.tenant}-{number}") for number in range(5)]
    made = sorted((letter.key() for letter in letters), reverse=True)  # all failed at one moment
    async with calling(create_app(parts, OPTIONS)) as client:  # which has not looked at the letters yet
        await _paged(client, made)


async def _paged(client: httpx.AsyncClient, made: list[str]) -> None:
    first = (await client.get("/api/v1/overview/dead-letters?kind=broken&limit=2")).json()
    assert len(first["letters"]) == 2
    await client.post("/api/v1/overview/dead-letters/redrive", json={"ids": [each["id"] for each in first["letters"]]})
    seen, address = [each["id"] for each in first["letters"]], first["next"]
    while address is not None:
        page = (await client.get(address)).json()
        seen += [each["id"] for each in page["letters"]]
        address = page.get("next")
    assert [key for key in seen if key in made] == made  # none was left out because two had gone
    wrong = await client.get("/api/v1/overview/dead-letters?cursor=50")
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:pentimento:problem:invalid_cursor")
    await client.post("/api/v1/overview/dead-letters/redrive", json={"ids": made[2:]})


async def test_all_dead_letters_of_a_filter_are_redriven_by_the_form(
    client: httpx.AsyncClient, parts: Parts, gallery: Gallery
) -> None:
    await buried(parts, b"{}", gallery.tenant)
    query = {"topic": topology.HARD_CASES, "kind": "broken"}
    sent = await client.post("/overview/dead-letters/redrive", data=query | {"all": "true"}, headers=LEAD)
    assert sent.status_code == 303
    assert (await client.get("/api/v1/overview/dead-letters", params=query)).json()["total"] == 0
    assert len(await arrived(parts, gallery.tenant.encode())) == 1
    nothing = await client.post("/api/v1/overview/dead-letters/redrive", json={})
    assert nothing.status_code == 422


# -- the live feed ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def following(base: str, **query: str | int) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    """The events of the live feed, each with its fields."""
    last = query.pop("last", None)
    headers = {} if last is None else {"last-event-id": str(last)}
    async with httpx.AsyncClient(timeout=30) as client:
        address = f"{base}/api/v1/verdicts/live"
        async with client.stream("GET", address, params=query, headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")

            async def events() -> AsyncIterator[dict[str, str]]:
                fields: dict[str, str] = {}
                async for line in answer.aiter_lines():
                    name, colon, value = line.partition(": ")
                    if not line and "event" in fields:
                        yield fields
                    if not line:
                        fields = {}
                    elif colon and name:
                        fields[name] = value

            yield events()


async def test_a_verdict_that_arrives_is_heard_by_those_who_may_and_nothing_is_lost_in_between(
    app: FastAPI, gallery: Gallery
) -> None:
    async with listening(app) as base:
        async with following(base, tenant=gallery.tenant, after=0) as events:
            await gallery.no_evidence("first", 21)
            heard = await anext(events)
            assert json.loads(heard["data"])["upload_id"] == "first"
        await gallery.no_evidence("missed", 22)
        async with following(base, tenant=gallery.tenant, last=heard["id"]) as events:
            missed = await anext(events)
            assert json.loads(missed["data"])["upload_id"] == "missed"
            await gallery.show(await gallery.rejected("revised"))
            assert json.loads((await anext(events))["data"])["upload_id"] == "revised"


async def pieces(feed: Feed, person: Person, tenant: str | None, last: int | None) -> AsyncGenerator[str, None]:
    """What a browser reads, without the greeting and heartbeats."""
    async with aclosing(feed.stream(person, tenant, last)) as stream:
        async for piece in stream:
            if piece.startswith("event:"):
                yield piece


async def test_who_missed_too_much_is_told_to_look_elsewhere(parts: Parts, gallery: Gallery) -> None:
    for number in range(4):
        await gallery.rejected(f"u-{number}")
    feed = Feed(Arrivals(parts.database), most=1, replayed=2)
    newest, _ = await Arrivals(parts.database).newest()
    async with aclosing(pieces(feed, LOCAL, gallery.tenant, 0)) as heard:
        assert (await anext(heard)).startswith(f"event: gap\nid: {newest}\n")


async def test_a_person_hears_of_their_tenants_alone(parts: Parts, gallery: Gallery) -> None:
    person = Person("p", "P", Role.VIEWER, frozenset({gallery.tenant}))
    stranger = Gallery(parts, f"{gallery.tenant}-other")
    await stranger.rejected("before")
    feed = Feed(Arrivals(parts.database), most=2)
    async with aclosing(pieces(feed, person, None, 0)) as heard:
        await stranger.rejected("not for them")
        await gallery.rejected("for them")
        assert '"upload_id": "for them"' in await anext(heard)


async def test_a_browser_that_takes_nothing_is_cut_and_comes_back_for_the_rest(parts: Parts, gallery: Gallery) -> None:
    listener = Listener(LOCAL, None)
    verdict = await gallery.rejected("slow")
    for place in range(QUEUE + 1):
        listener.hear(Arrival(place, verdict))
    assert listener.waiting.get_nowait() is None
    assert listener.waiting.empty()
    assert written(Arrival(7, verdict)).startswith("event: verdict\nid: 7\n")


async def test_no_more_browsers_follow_than_are_allowed(parts: Parts) -> None:
    feed = Feed(Arrivals(parts.database), most=1)
    async with aclosing(feed.stream(LOCAL, None, None)) as stream:
        await anext(stream)
        with pytest.raises(Refused) as refused:
            feed.admit(LOCAL)
        assert refused.value.problem.status == 503
    feed.admit(LOCAL)
    feed.close()
    with pytest.raises(Refused):
        feed.admit(LOCAL)


async def test_a_verdict_whose_row_is_seen_late_is_heard_all_the_same(parts: Parts, gallery: Gallery) -> None:
    """Of two rows that are written at once, the one with the lower number may be committed last."""
    late = (await gallery.rejected("late")).model_copy(update={"revision": 1})
    row = {"tenant": gallery.tenant, "event": late.to_bytes().decode()}
    feed = Feed(Arrivals(parts.database), most=1)
    place, _ = await Arrivals(parts.database).newest()
    async with aclosing(pieces(feed, LOCAL, gallery.tenant, place)) as heard, parts.database.connection() as connection:
        async with connection.transaction():
            await connection.execute(
                "insert into verdict_history (tenant, upload_id, revision, event) "
                "values (%(tenant)s, 'late', 1, %(event)s)",
                row,
            )
            await gallery.rejected("early")
            assert '"upload_id": "early"' in await anext(heard)
        assert '"upload_id": "late", "revision": 1' in await anext(heard)
