"""Webhooks over HTTP and as pages: admins alone, secrets once, everything that the log knows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from services.clients.audit import AuditFilter
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.deliveries import Deliveries
from services.core.access import Person, Role
from services.core.webhooks import Attempt, GivenUp
from services.settings import WebhookSettings
from services.web.app import create_app
from services.web.limits import Limiter
from services.web.parts import Parts
from tests.clients.examples import verdict
from tests.web.conftest import OPTIONS, calling

URL = "https://hooks.example.com/pentimento"
HOOKS = WebhookSettings(keys=(SecretStr(Fernet.generate_key().decode()),), allowed_hosts=("hooks.example.com",))
ADMIN = Person("ada", "Ada", Role.ADMIN)
FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


class As:
    """The app's inside, asked by a person that the gate would have found."""

    def __init__(self, app: ASGIApp, person: Person) -> None:
        self._app = app
        self._person = person

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["person"] = self._person
        await self._app(scope, receive, send)


def app_of(parts: Parts, person: Person, hooks: WebhookSettings = HOOKS) -> FastAPI:
    app = create_app(parts, replace(OPTIONS, webhooks=hooks))
    app.add_middleware(As, person=person)
    # The gate makes everybody LOCAL where there is no token: whoever asks is to be one of the test's people.
    kept: tuple[Any, ...] = (As, Limiter)
    app.user_middleware = [each for each in app.user_middleware if each.cls in kept]
    return app


@pytest.fixture
async def admin(bare: Parts, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with database.connection() as connection:
        await connection.execute("truncate webhook cascade")
    async with calling(app_of(bare, ADMIN)) as opened:
        yield opened


async def add(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/webhooks", json={"url": URL, **wanted})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def failed(database: Database, upload_id: str, count: int = 1) -> None:
    """Verdicts whose deliveries were given up."""
    for number in range(count):
        made = verdict(f"{upload_id}-{number}", tenant="default")
        await Verdicts(database).project(made.model_copy(update={"judged_at": datetime.now(UTC)}))
        while claimed := await Deliveries(database).claim(at_most=10, per_webhook=10, lease_s=60):
            for delivery in claimed:
                await Deliveries(database).settle(delivery, Attempt(503, 12.5), GivenUp("status"))


async def test_a_secret_is_shown_once_and_never_again(admin: httpx.AsyncClient) -> None:
    made = await add(admin, events=["verdict", "review"], decisions=["manipulated"])
    assert made["secret"].startswith("whsec_")
    shown = (await admin.get(f"/api/v1/webhooks/{made['id']}")).json()
    assert "secret" not in shown
    assert {**shown, "secret": made["secret"]} == {each: said for each, said in made.items() if said is not None}
    assert made["secret"] not in (await admin.get("/api/v1/webhooks")).text
    assert made["secret"] not in (await admin.get(f"/admin/webhooks/{made['id']}", headers=FORM)).text
    again = (await admin.post(f"/api/v1/webhooks/{made['id']}/rotate")).json()
    assert again["secret"] != made["secret"]
    assert (await admin.get(f"/api/v1/webhooks/{made['id']}")).json()["old_secret_until"] == again["old_until"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"url": "https://10.0.0.1/hook"}, "url_not_allowed"),
        ({"url": "http://hooks.example.com/hook"}, "url_not_allowed"),
        ({"url": "https://hooks.example.com:8443/hook"}, "url_not_allowed"),
        ({"url": "https://ada:pw@hooks.example.com/"}, "url_not_allowed"),
        ({"url": URL, "events": []}, "invalid_request"),
        ({"url": URL, "events": ["ping"]}, "invalid_request"),
        ({"url": URL, "decisions": ["authentic"]}, "invalid_request"),
        ({"url": URL, "tenant": "a b"}, "invalid_request"),
    ],
)
async def test_what_does_not_fit_is_refused(admin: httpx.AsyncClient, wanted: dict[str, Any], code: str) -> None:
    answer = await admin.post("/api/v1/webhooks", json=wanted)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:pentimento:problem:{code}"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MODERATOR, Role.LEAD])
async def test_only_admins_see_webhooks(bare: Parts, role: Role) -> None:
    async with calling(app_of(bare, Person("bo", "Bo", role))) as client:
        assert (await client.get("/api/v1/webhooks")).status_code == 403
        assert (await client.post("/api/v1/webhooks", json={"url": URL})).status_code == 403
        assert (await client.get("/admin/webhooks", headers=FORM)).status_code == 403


async def test_another_tenants_webhook_is_not_there(admin: httpx.AsyncClient, bare: Parts) -> None:
    theirs = await add(admin, tenant="theirs")
    ours = await add(admin, tenant="ours")
    person = Person("bo", "Bo", Role.ADMIN, frozenset({"ours"}))
    async with calling(app_of(bare, person)) as client:
        assert [each["id"] for each in (await client.get("/api/v1/webhooks")).json()["webhooks"]] == [ours["id"]]
        assert (await client.get("/api/v1/webhooks?tenant=theirs")).status_code == 404
        assert (await client.post("/api/v1/webhooks", json={"url": URL, "tenant": "theirs"})).status_code == 404
        at = f"/api/v1/webhooks/{theirs['id']}"
        answers = [
            await client.get(at),
            await client.patch(at, json={"state": "paused"}),
            await client.delete(at),
            await client.post(f"{at}/rotate"),
            await client.post(f"{at}/test"),
            await client.post(f"{at}/redrive", json={}),
            await client.get(f"{at}/deliveries"),
            await client.get(f"{at}/attempts"),
            await client.get(f"/admin/webhooks/{theirs['id']}", headers=FORM),
            await client.post(f"/admin/webhooks/{theirs['id']}/remove", headers=FORM),
        ]
        assert {answer.status_code for answer in answers} == {404}
    assert (await admin.get(at)).json()["state"] == "active"


async def test_lists_have_pages(admin: httpx.AsyncClient, database: Database) -> None:
    made = [(await add(admin))["id"] for _ in range(5)]
    seen: list[str] = []
    address: str | None = "/api/v1/webhooks?limit=2&tenant=default"
    while address:
        page = (await admin.get(address)).json()
        seen += [each["id"] for each in page["webhooks"]]
        address = page.get("next")
    assert seen == made
    await failed(database, "u", 3)
    for name in ("deliveries", "attempts"):
        ids: list[int] = []
        address = f"/api/v1/webhooks/{made[0]}/{name}?limit=2"
        while address:
            page = (await admin.get(address)).json()
            ids += [each["id"] for each in page[name]]
            address = page.get("next")
        assert len(ids) == 3
        assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "WyIyMDI2IiwgIngiXQ", "W10", "WzEsMl0"])
async def test_a_cursor_that_is_none_is_refused(admin: httpx.AsyncClient, cursor: str) -> None:
    webhook = (await add(admin))["id"]
    assert (await admin.get(f"/api/v1/webhooks?cursor={cursor}")).status_code == 422
    assert (await admin.get(f"/api/v1/webhooks/{webhook}/attempts?cursor={cursor}")).status_code == 422


async def test_dead_letters_are_shown_and_redriven(admin: httpx.AsyncClient, database: Database) -> None:
    webhook = (await add(admin))["id"]
    await failed(database, "u-redrive", 2)
    at = f"/api/v1/webhooks/{webhook}"
    dead = (await admin.get(f"{at}/deliveries?state=dead")).json()["deliveries"]
    assert [(each["reason"], each["status"], each["attempts"]) for each in dead] == [("status", 503, 1)] * 2
    log = (await admin.get(f"{at}/attempts")).json()["attempts"]
    assert [(each["status"], each["duration_ms"]) for each in log] == [(503, 12.5)] * 2
    once = await admin.post(f"{at}/redrive", json={"deliveries": [dead[0]["id"]]})
    assert once.json() == {"redriven": 1}
    assert (await admin.post(f"{at}/redrive", json={})).json() == {"redriven": 1}
    assert (await admin.get(at)).json()["waiting"] == 2


async def test_a_test_event_is_queued_once_per_key_and_not_while_paused(admin: httpx.AsyncClient) -> None:
    at = f"/api/v1/webhooks/{(await add(admin))['id']}"
    first = await admin.post(f"{at}/test", headers={"idempotency-key": "k-1"})
    again = await admin.post(f"{at}/test", headers={"idempotency-key": "k-1"})
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (await admin.get(at)).json()["waiting"] == 1
    assert (await admin.patch(at, json={"state": "paused"})).json()["state"] == "paused"
    assert (await admin.post(f"{at}/test")).status_code == 409
    assert (await admin.delete(at)).status_code == 204
    assert (await admin.get(at)).status_code == 404


async def test_without_a_key_nothing_is_registered_and_the_page_says_why(bare: Parts) -> None:
    async with calling(app_of(bare, ADMIN, WebhookSettings(allowed_hosts=("hooks.example.com",)))) as client:
        answer = await client.post("/api/v1/webhooks", json={"url": URL})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:pentimento:problem:no_webhook_key")
        assert "PENTIMENTO_WEBHOOKS__KEYS" in (await client.get("/admin/webhooks", headers=FORM)).text


async def test_an_admin_does_everything_on_the_pages(admin: httpx.AsyncClient, database: Database) -> None:
    form = {"url": URL, "tenant": "default", "events": ["verdict", "review"], "decisions": ["manipulated"]}
    made = await admin.post("/admin/webhooks", data=form, headers=FORM)
    assert made.status_code == 201
    secret = re.search(r'<code id="secret">(whsec_[^<]+)</code>', made.text)
    assert secret is not None
    (webhook,) = (await admin.get("/api/v1/webhooks")).json()["webhooks"]
    at = f"/admin/webhooks/{webhook['id']}"
    assert f'href="{at}"' in (await admin.get("/admin/webhooks", headers=FORM)).text
    await failed(database, "u-page", 2)
    page = (await admin.get(at, headers=FORM)).text
    assert "Dead letters: 2" in page
    assert page.count('name="delivery"') == 2
    dead = re.findall(r'name="delivery" value="(\d+)"', page)
    redriven = await admin.post(f"{at}/redrive", data={"delivery": dead[:1]}, headers=FORM)
    assert (redriven.status_code, redriven.headers["location"]) == (303, at)
    assert (await admin.get(f"/api/v1{at.removeprefix('/admin')}")).json()["dead"] == 1
    for name, state in (("pause", "Paused"), ("resume", "Active")):
        assert (await admin.post(f"{at}/{name}", headers=FORM)).status_code == 303
        assert f"<dd>{state}" in (await admin.get(at, headers=FORM)).text
    assert (await admin.post(f"{at}/test", headers=FORM)).status_code == 303
    rotated = await admin.post(f"{at}/rotate", headers=FORM)
    assert secret.group(1) not in rotated.text
    assert "Old secret" in rotated.text
    assert (await admin.post(f"{at}/remove", headers=FORM)).headers["location"] == "/admin/webhooks"
    assert (await admin.get(at, headers=FORM)).status_code == 404


async def test_whatever_an_admin_does_is_written_down(admin: httpx.AsyncClient, bare: Parts) -> None:
    made = await admin.post("/api/v1/webhooks", json={"url": f"{URL}/hidden-1?key=hidden-2", "tenant": "noted"})
    webhook = made.json()["id"]
    at, page = f"/api/v1/webhooks/{webhook}", f"/admin/webhooks/{webhook}"
    await admin.patch(at, json={"state": "paused"})
    await admin.post(f"{page}/resume", headers=FORM)
    await admin.post(f"{at}/rotate")
    await admin.post(f"{page}/redrive", headers=FORM)
    await admin.post(f"{at}/redrive", json={"deliveries": [1, 2]})
    await admin.post(f"{page}/remove", headers=FORM)
    entries = await bare.audit.find(AuditFilter(tenant="noted"))
    assert [(each.subject, each.action, each.details) for each in reversed(entries)] == [
        ("ada", "webhook_added", {"webhook": webhook, "host": "hooks.example.com"}),
        ("ada", "webhook_paused", {"webhook": webhook}),
        ("ada", "webhook_resumed", {"webhook": webhook}),
        ("ada", "webhook_rotated", {"webhook": webhook}),
        ("ada", "webhook_redriven", {"webhook": webhook, "deliveries": "all"}),
        ("ada", "webhook_redriven", {"webhook": webhook, "deliveries": 2}),
        ("ada", "webhook_removed", {"webhook": webhook}),
    ]


async def test_no_field_of_the_form_can_hold_a_script(admin: httpx.AsyncClient) -> None:
    bad = await admin.post(
        "/admin/webhooks", data={"url": "<script>alert(1)</script>", "events": "verdict"}, headers=FORM
    )
    assert bad.status_code == 422
    assert "<script>alert" not in bad.text
    odd = {"url": f"{URL}?<script>", "events": ["verdict"]}
    answer = await admin.post("/admin/webhooks", data=odd, headers=FORM)
    assert "<script>" not in answer.text.replace('<script src="/static', "")


async def test_pages_have_nothing_inline(admin: httpx.AsyncClient) -> None:
    webhook = (await add(admin))["id"]
    for address in ("/admin/webhooks", f"/admin/webhooks/{webhook}"):
        page = (await admin.get(address, headers=FORM)).text
        assert " style=" not in page
        assert page.count("<script") == page.count("<script src=")
