"""The review API on real PostgreSQL and Kafka: from a verdict in doubt to a revised verdict that the trainer sees."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.clients.annotations import Annotations
from services.clients.audit import AuditFilter
from services.clients.cases import HardCases
from services.clients.late import Uploads
from services.clients.ledger import Ledger
from services.clients.review_cases import ReviewCases
from services.core import topology
from services.core.access import Person, Role
from services.core.envelope import decode
from services.core.errors import PentimentoError
from services.core.events import Decision, HardCaseFound, HardCaseReason, Path, ReviewDecided, VerdictReached
from services.core.pixels import encode_png
from services.core.policy import DEFAULT_POLICY, Policy, ReviewPolicy
from services.core.review.mask import MASK_BYTES
from services.settings import ReviewSettings
from services.stream.learn import Learn, Told
from services.web import review
from services.web.parts import Parts
from services.web.problems import Refused, answer, problem_of
from services.web.review.publishing import Publisher, publishing
from tests.web.conftest import NOON, OPTIONS, SIZE, Gallery, calling

API = "/api/v1/review"
MANIPULATED = {"decision": "manipulated", "reason_codes": ["content_added"]}


class As:
    """The gate's part in these tests: everybody who calls is this person."""

    def __init__(self, app: ASGIApp, person: Person) -> None:
        self._app = app
        self._person = person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["person"] = self._person
        await self._app(scope, receive, send)


@dataclass
class Office:
    """People who review one tenant's cases, and a clock that a test sets forward."""

    parts: Parts
    gallery: Gallery
    settings: ReviewSettings = field(default_factory=ReviewSettings)
    now: datetime = NOON
    draw: Callable[[], float] = lambda: 1.0
    policy: Policy = DEFAULT_POLICY
    max_bytes: int = OPTIONS.max_bytes

    def __post_init__(self) -> None:
        self.tenant = self.gallery.tenant
        self.parts = replace(self.parts, now=lambda: self.now)
        self.learn = Learn(
            verdicts=self.parts.verdicts,
            hard_cases=HardCases(self.parts.database),
            reviews=ReviewCases(self.parts.database),
            ledger=Ledger(self.parts.database),
            objects=self.parts.objects,
            policy=DEFAULT_POLICY,
            now=lambda: self.now,
            told=Told(lambda verdict: None, lambda case: None),
        )

    @asynccontextmanager
    async def desk(self, name: str, role: Role = Role.MODERATOR) -> AsyncIterator[httpx.AsyncClient]:
        """What somebody of this tenant calls the API with."""
        app = FastAPI()
        options = replace(OPTIONS, review=self.settings, policy=self.policy, max_bytes=self.max_bytes)
        app.include_router(review.router(self.parts, options, draw=self._draw))
        for kind in (PentimentoError, Refused):
            app.add_exception_handler(kind, _problem)
        app.add_middleware(As, person=Person(f"{self.tenant}/{name}", name, role, frozenset({self.tenant})))
        async with calling(app) as client:
            yield client

    def _draw(self) -> float:
        return self.draw()

    async def doubt(self, upload_id: str, seed: int, **changes: Any) -> VerdictReached:
        """An upload whose verdict is in doubt, all the way to the queue."""
        sure = await self.gallery.no_evidence(f"seed-{upload_id}", seed)
        verdict = sure.model_copy(
            update={"upload_id": upload_id, "decision": Decision.INCONCLUSIVE, "score": 0.8, **changes}
        )
        assert verdict.image is not None
        await Uploads(self.parts.database).remember(self.tenant, upload_id, verdict.image.sha256)
        await Ledger(self.parts.database).claim(verdict)
        await self.learn.verdict(verdict)
        return verdict

    async def publish(self) -> None:
        await Publisher(self.parts, "/test").once()

    async def on_kafka(self) -> list[ReviewDecided]:
        """This tenant's decisions on the topic, by now."""
        events = [
            decode(message, ReviewDecided) async for message in self.parts.reader.read(topology.REVIEWS, until_end=True)
        ]
        return [event for event in events if event.tenant == self.tenant]


async def _problem(request: Request, error: Exception) -> Response:
    return answer(request, problem_of(error))


@pytest.fixture
def office(parts: Parts, gallery: Gallery) -> Office:
    return Office(parts, gallery)


def ok(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def code(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["type"]).rpartition(":")[2]


def drawing(size: tuple[int, int] = SIZE) -> bytes:
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[10:60, 20:90] = 255
    return encode_png(mask)


async def test_a_decision_revises_the_verdict_and_its_mask_reaches_the_trainer(office: Office) -> None:
    verdict = await office.doubt("u-1", 1)
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        assert (case["upload_id"], case["lock"]["mine"], case["verdict"]["revision"]) == ("u-1", True, 0)
        headers = {"content-type": "image/png"}
        kept = ok(await ann.post(f"{API}/cases/{case['id']}/mask", content=drawing(), headers=headers), 201)
        body = {**MANIPULATED, "mask": kept["mask"], "upload_id": "u-1", "revision": 0, "comment": "a <b>bird</b>"}
        decided = ok(await ann.post(f"{API}/cases/{case['id']}/decide", json=body))
        assert (decided["decision"]["state"], decided["case"]["state"]) == ("undoable", "decided")
        office.now += timedelta(seconds=11)
        await office.publish()
        progress = ok(await ann.get(f"{API}/decisions/{decided['decision']['id']}"))
        assert (progress["state"], progress["sent"], progress["uploads"]) == ("final", 1, 1)

    kept_entries = await office.parts.audit.find(AuditFilter(tenant=office.tenant), limit=10)
    assert [(each.action, each.upload_id) for each in kept_entries] == [("review_decided", "u-1")]

    [event] = await office.on_kafka()
    assert (event.decision, event.of_revision, event.reason_codes) == (Decision.MANIPULATED, 0, ("content_added",))
    assert event.corrected_mask_key == f"masks/sha256/{kept['mask'][:2]}/{kept['mask']}.png"
    assert np.array_equal(_pixels(await office.parts.objects.get(event.corrected_mask_key, 10**6)), _pixels(drawing()))

    revised, hard_case = await office.learn.review(event)
    assert isinstance(revised, VerdictReached) and isinstance(hard_case, HardCaseFound)
    assert (revised.revision, revised.decision, revised.path) == (1, Decision.MANIPULATED, Path.REVIEWED)
    assert revised.mask is not None and revised.mask.object_key == event.corrected_mask_key
    assert HardCaseReason.MODERATOR_OVERTURNED in hard_case.reasons
    # Delivered again: the same revision and the same hard case, and no other.
    assert await office.learn.review(event) == (revised, hard_case)
    await office.learn.verdict(revised)
    assert [each.revision for each in await office.parts.verdicts.get(office.tenant, "u-1")] == [0, 1]
    [to_annotate] = await Annotations(office.parts.database).open(office.tenant, "test", limit=10)
    assert to_annotate.case.image == verdict.image
    assert to_annotate.review is not None and to_annotate.review.corrected_mask_key == event.corrected_mask_key


async def test_an_undone_decision_never_reaches_kafka(office: Office) -> None:
    await office.doubt("u-1", 2)
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        said = ok(await ann.post(f"{API}/cases/{case['id']}/decide", json=MANIPULATED))
        again = ok(await ann.post(f"{API}/decisions/{said['decision']['id']}/undo"))
        assert (again["id"], again["state"], again["lock"]["mine"]) == (case["id"], "open", True)
        office.now += timedelta(minutes=1)
        await office.publish()
        assert await office.on_kafka() == []
        said = ok(await ann.post(f"{API}/cases/{case['id']}/decide", json={"decision": "no_evidence"}))
        office.now += timedelta(minutes=1)
        await office.publish()
        assert [event.decision for event in await office.on_kafka()] == [Decision.NO_EVIDENCE]
        assert code(await ann.post(f"{API}/decisions/{said['decision']['id']}/undo"), 409) == "too_late"
        mine = ok(await ann.get(f"{API}/decisions"))["decisions"]
        assert [each["state"] for each in mine] == ["final", "undone"]


async def test_the_next_case_is_the_one_that_somebody_has_already_until_they_are_done(office: Office) -> None:
    await office.doubt("u-1", 3)
    await office.doubt("u-2", 4)
    async with office.desk("Ann") as ann, office.desk("Bob") as bob:
        first = ok(await ann.post(f"{API}/next", json={}))["case"]
        assert ok(await ann.post(f"{API}/next", json={}))["case"]["id"] == first["id"]
        second = ok(await bob.post(f"{API}/next", json={}))["case"]
        assert second["id"] != first["id"]
        assert code(await bob.post(f"{API}/cases/{first['id']}/claim"), 409) == "case_locked"
        assert code(await bob.post(f"{API}/cases/{first['id']}/heartbeat"), 409) == "not_yours"
        assert ok(await ann.post(f"{API}/cases/{first['id']}/heartbeat"))["until"]
        queue = ok(await bob.get(f"{API}/queue"))
        assert (queue["open"], len(queue["cases"]), [each["id"] for each in queue["mine"]]) == (2, 2, [second["id"]])
        assert (await ann.post(f"{API}/cases/{first['id']}/release")).status_code == 204
        assert (await bob.post(f"{API}/cases/{second['id']}/skip")).status_code == 204
        assert ok(await bob.post(f"{API}/next", json={}))["case"]["id"] == first["id"]
        empty = ok(await bob.post(f"{API}/cases/{first['id']}/take-over"))
        assert empty["lock"]["by"] == "Bob"


async def test_pages_of_queue_and_members_lead_to_each_other(office: Office) -> None:
    for number in range(3):
        await office.doubt(f"u-{number}", 10 + number)
    await office.doubt("again/ü?", 10)
    async with office.desk("Ann") as ann:
        first = ok(await ann.get(f"{API}/queue?limit=2&tenant={office.tenant}"))
        rest = ok(await ann.get(first["next"]))
        cases = [*first["cases"], *rest["cases"]]
        assert (len({each["id"] for each in cases}), rest["next"]) == (3, None)
        [wide] = [each["id"] for each in cases if each["members"] == 2]
        page = ok(await ann.get(f"{API}/cases/{wide}/members?limit=1"))
        last = ok(await ann.get(page["next"]))
        found = {each["upload_id"] for each in (*page["members"], *last["members"])}
        assert (found, page["total"], last["next"]) == ({"u-0", "again/ü?"}, 2, None)
        assert code(await ann.get(f"{API}/queue?cursor=nonsense"), 422) == "invalid_cursor"


async def test_what_does_not_fit_the_policy_or_the_case_is_refused(office: Office) -> None:
    await office.doubt("u-1", 20)
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        where = f"{API}/cases/{case['id']}/decide"
        for body, why in (
            ({"decision": "manipulated"}, "needs a reason code"),
            ({"decision": "no_evidence", "reason_codes": ["content_added"]}, "does not go with"),
            ({"decision": "no_evidence", "reason_codes": ["made_up"]}, "no reason code"),
            ({**MANIPULATED, "mask": "0" * 64}, "not drawn by you"),
            ({**MANIPULATED, "members": ["u-1", "u-9"]}, "no member"),
        ):
            refused = await ann.post(where, json=body)
            assert code(refused, 422) == "invalid_decision"
            assert why in refused.json()["detail"]
        assert code(await ann.post(where, json={**MANIPULATED, "revision": 7}), 409) == "case_changed"


async def test_a_decision_that_is_sent_again_is_answered_as_before_whatever_the_rules_say_by_now(bare: Parts) -> None:
    office = Office(bare, Gallery(bare, "repeats"))
    await office.doubt("u-1", 25)
    body = {**MANIPULATED, "upload_id": "u-1"}
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        where = f"{API}/cases/{case['id']}/decide"
        long = {"idempotency-key": "k" * 256}
        assert code(await ann.post(where, json=body, headers=long), 400) == "invalid_key"
        first = await ann.post(where, json=body, headers={"idempotency-key": '"k-1"'})
        said = ok(first)
    assert "idempotency-replayed" not in first.headers
    office.policy = DEFAULT_POLICY.model_copy(update={"review": ReviewPolicy(reasons=(), reason_required=())})
    async with office.desk("Ann") as ann:
        again = await ann.post(where, json=body, headers={"idempotency-key": "k-1"})
        assert (ok(again)["decision"]["id"], again.headers["idempotency-replayed"]) == (said["decision"]["id"], "true")
        other = await ann.post(where, json={**body, "comment": "no"}, headers={"idempotency-key": "k-1"})
        assert code(other, 422) == "key_reused"
    [entry] = await office.parts.audit.find(AuditFilter(tenant=office.tenant), limit=10)  # it was decided once
    assert (entry.action, entry.upload_id, entry.details["uploads"]) == ("review_decided", "u-1", 1)


async def test_taking_over_is_written_down_where_somebody_had_the_case_still(bare: Parts) -> None:
    office = Office(bare, Gallery(bare, "taken-over"))
    await office.doubt("u-1", 26)
    async with office.desk("Ann") as ann, office.desk("Bob") as bob, office.desk("Lea", Role.LEAD) as lea:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        office.now += timedelta(seconds=office.settings.lock_s + 1)
        ok(await bob.post(f"{API}/cases/{case['id']}/claim"))
        assert await office.parts.audit.find(AuditFilter(tenant=office.tenant), limit=10) == []
        ok(await lea.post(f"{API}/cases/{case['id']}/take-over"))
    [entry] = await office.parts.audit.find(AuditFilter(tenant=office.tenant), limit=10)
    assert (entry.action, entry.details["from"]) == ("review_taken_over", "Bob")


@pytest.mark.parametrize(
    "data",
    [
        b"no picture",
        drawing((SIZE[0] + 1, SIZE[1])),
        encode_png(np.zeros((SIZE[1], SIZE[0]), np.uint8)),
        encode_png(np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)),
    ],
    ids=["no picture", "other size", "marks nothing", "colours"],
)
async def test_a_mask_that_is_none_of_the_upload_is_refused(office: Office, data: bytes) -> None:
    await office.doubt("u-1", 30)
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        where = f"{API}/cases/{case['id']}/mask"
        refused = await ann.post(where, content=data, headers={"content-type": "image/png"})
        assert code(refused, 422) == "invalid_mask"
        assert code(await ann.post(where, content=data), 415) == "not_png"


async def test_a_mask_that_is_larger_than_what_is_read_later_is_refused(bare: Parts) -> None:
    office = Office(bare, Gallery(bare, "large-masks"))
    await office.doubt("u-1", 35)
    office.max_bytes = 2 * MASK_BYTES
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        large = drawing() + bytes(MASK_BYTES)
        refused = await ann.post(f"{API}/cases/{case['id']}/mask", content=large, headers={"content-type": "image/png"})
        assert code(refused, 413) == "too_large"


async def test_an_upload_id_that_is_none_is_refused(bare: Parts) -> None:
    office = Office(bare, Gallery(bare, "no-ids"))
    await office.doubt("u-1", 36)
    async with office.desk("Ann") as ann, office.desk("Lea", Role.LEAD) as lea:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        where = f"{API}/cases/{case['id']}/mask"
        ok(await ann.post(where, params={"upload_id": "u\x001"}, content=drawing()), 422)
        new = {"tenant": office.tenant, "upload_id": "u\x001", "answer": "manipulated"}
        ok(await lea.post(f"{API}/honeypots", json=new), 422)


async def test_nothing_is_there_for_viewers_and_other_tenants(office: Office, parts: Parts) -> None:
    await office.doubt("u-1", 40)
    stranger = Office(parts, Gallery(parts, "stranger"))
    async with office.desk("Ann") as ann, office.desk("Vic", Role.VIEWER) as vic, stranger.desk("Eve") as eve:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        assert code(await vic.get(f"{API}/queue"), 403) == "role_required"
        assert code(await ann.get(f"{API}/stats"), 403) == "role_required"
        assert ok(await eve.get(f"{API}/queue"))["cases"] == []
        assert code(await eve.get(f"{API}/queue?tenant={office.tenant}"), 404) == "not_found"
        for path in ("", "/members"):
            assert code(await eve.get(f"{API}/cases/{case['id']}{path}"), 404) == "no_case"
        for path in ("claim", "take-over", "heartbeat", "release", "skip", "mask"):
            assert code(await eve.post(f"{API}/cases/{case['id']}/{path}"), 404) == "no_case"
        assert code(await eve.post(f"{API}/cases/{case['id']}/decide", json=MANIPULATED), 404) == "no_case"


async def test_who_has_seen_as_much_as_they_are_to_see_gets_no_further_case(office: Office) -> None:
    office.settings = ReviewSettings(cases_a_day=1)
    await office.doubt("u-1", 50)
    await office.doubt("u-2", 51)
    async with office.desk("Ann") as ann:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        ok(await ann.post(f"{API}/cases/{case['id']}/decide", json=MANIPULATED))
        nothing = ok(await ann.post(f"{API}/next", json={}))
        assert (nothing["case"], nothing["why"], nothing["exposure"]["used_up"]) == (None, "budget_used_up", True)
        [other] = ok(await ann.get(f"{API}/queue"))["cases"]
        assert code(await ann.post(f"{API}/cases/{other['id']}/claim"), 409) == "budget_used_up"


async def test_choices_of_a_person_lie_over_those_of_the_organisation(office: Office) -> None:
    async with office.desk("Vic", Role.VIEWER) as vic:
        usual = {"blur": True, "greyscale": False, "opacity": 0.6, "theme": "system"}
        assert ok(await vic.get(f"{API}/settings")) == usual
        ok(await vic.put(f"{API}/settings", json={"blur": False, "theme": "dark"}))
        ok(await vic.put(f"{API}/settings", json={"theme": None, "opacity": 0.3}))
        assert ok(await vic.get(f"{API}/settings")) == {**usual, "blur": False, "opacity": 0.3}


async def test_a_case_with_a_known_answer_looks_like_any_other_and_counts_for_leads(office: Office) -> None:
    await office.doubt("known", 60)
    await office.doubt("other", 61)
    async with office.desk("Ann") as ann, office.desk("Lea", Role.LEAD) as lea:
        new = {"tenant": office.tenant, "upload_id": "known", "answer": "manipulated"}
        assert code(await lea.post(f"{API}/honeypots", json=new), 409) == "not_settled"
        known = next(each for each in ok(await lea.get(f"{API}/queue"))["cases"] if each["upload_id"] == "known")
        ok(await lea.post(f"{API}/cases/{known['id']}/claim"))
        ok(await lea.post(f"{API}/cases/{known['id']}/decide", json=MANIPULATED))
        office.now += timedelta(minutes=1)
        await office.publish()
        for event in await office.on_kafka():
            for changed in await office.learn.review(event):
                if isinstance(changed, VerdictReached):
                    await office.learn.verdict(changed)
        ok(await lea.post(f"{API}/honeypots", json=new), 201)

        office.draw = lambda: 0.0
        shown = ok(await ann.post(f"{API}/next", json={}))["case"]
        office.draw = lambda: 1.0
        assert (shown["upload_id"], shown["revision"], len(shown["revisions"])) == ("known", 0, 1)
        usual = ok(await ann.get(f"{API}/cases/{ok(await ann.get(f'{API}/queue'))['cases'][0]['id']}"))
        assert set(shown) == set(usual)
        assert (shown["opened_at"], shown["state"], shown["kind"]) == (usual["opened_at"], "open", usual["kind"])
        said = ok(await ann.post(f"{API}/cases/{shown['id']}/decide", json={"decision": "no_evidence"}))
        assert said["decision"]["state"] == "undoable"
        office.now += timedelta(minutes=1)
        await office.publish()
        assert len(await office.on_kafka()) == 1
        done = ok(await ann.get(f"{API}/decisions/{said['decision']['id']}"))
        assert (done["state"], done["sent"]) == ("final", 1)
        figures = ok(await lea.get(f"{API}/stats"))
        [of_ann] = [each for each in figures["moderators"] if each["name"] == "Ann"]
        assert (of_ann["honeypots"], of_ann["honeypot_accuracy"]) == (1, 0.0)
        [listed] = ok(await lea.get(f"{API}/honeypots"))["honeypots"]
        assert (listed["shown"], listed["right"]) == (1, 0)
        assert (await lea.post(f"{API}/honeypots/{listed['id']}/retire")).status_code == 204


async def test_two_decide_blindly_and_leads_see_how_often_they_agree(office: Office) -> None:
    office.settings = ReviewSettings(second_share=1.0)
    await office.doubt("u-1", 70)
    async with office.desk("Ann") as ann, office.desk("Bob") as bob, office.desk("Lea", Role.LEAD) as lea:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        said = ok(await ann.post(f"{API}/cases/{case['id']}/decide", json=MANIPULATED))
        assert said["case"]["state"] == "decided"
        assert ok(await ann.post(f"{API}/next", json={}))["case"] is None
        again = ok(await bob.post(f"{API}/next", json={}))["case"]
        assert (again["id"], again["decisions"], again["notes"], again["escalated"]) == (case["id"], [], [], False)
        ok(await bob.post(f"{API}/cases/{case['id']}/decide", json=MANIPULATED))
        office.now += timedelta(minutes=1)
        await office.publish()
        assert [event.moderator for event in await office.on_kafka()] == [f"{office.tenant}/Ann"]
        [pair] = ok(await lea.get(f"{API}/stats"))["agreement"]
        assert pair == {"first": "Ann", "second": "Bob", "cases": 1, "percent": 1.0, "kappa": None}


async def test_a_lead_decides_every_member_at_once_and_reopens_the_case(office: Office) -> None:
    for number in range(3):
        await office.doubt(f"u-{number}", 80)
    async with office.desk("Ann") as ann, office.desk("Lea", Role.LEAD) as lea:
        case = ok(await ann.post(f"{API}/next", json={}))["case"]
        said = {"note": "many of one picture"}
        assert (await ann.post(f"{API}/cases/{case['id']}/escalate", json=said)).status_code == 204
        assert code(await ann.post(f"{API}/cases/{case['id']}/claim"), 403) == "escalated"
        taken = ok(await lea.post(f"{API}/next", json={"escalated": True}))["case"]
        assert ([note["text"] for note in taken["notes"]], taken["members"]) == ([said["note"]], 3)
        decided = ok(await lea.post(f"{API}/cases/{case['id']}/decide", json={**MANIPULATED, "members": "all"}))
        assert decided["decision"]["uploads"] == 3
        office.now += timedelta(minutes=1)
        await office.publish()
        assert {event.upload_id for event in await office.on_kafka()} == {"u-0", "u-1", "u-2"}
        assert code(await ann.post(f"{API}/cases/{case['id']}/reopen", json=said), 403) == "role_required"
        reopened = ok(await lea.post(f"{API}/cases/{case['id']}/reopen", json=said))
        assert (reopened["state"], reopened["members"], reopened["lock"]["mine"]) == ("open", 3, True)


async def test_a_publisher_that_breaks_says_so_and_with_what(bare: Parts) -> None:
    def now() -> datetime:
        raise ZeroDivisionError

    ended = asyncio.Event()
    publisher = Publisher(replace(bare, now=now), "/test")
    with pytest.raises(ZeroDivisionError):
        async with publishing(publisher, ended=ended.set):
            await ended.wait()


async def test_the_app_has_the_review_api_and_describes_it(client: httpx.AsyncClient) -> None:
    assert ok(await client.get(f"{API}/reasons"))["undo_s"] == 10.0
    document = ok(await client.get("/api/v1/openapi.json"))
    assert {f"{API}/next", f"{API}/cases/{{case_id}}/decide"} <= set(document["paths"])


def _pixels(png: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(png)))
