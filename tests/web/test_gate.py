"""Who may come in, what every answer carries, and what goes wrong gracefully."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, KafkaConnection
from services.web.app import create_app
from services.web.auth import WebToken, local_path, refusal
from services.web.parts import Parts
from tests.web.conftest import OPTIONS, TOKEN, Gallery, calling, photo

BEARER = {"authorization": f"Bearer {TOKEN}"}
PAGE = {"accept": "text/html"}


async def test_every_answer_forbids_scripts_from_elsewhere_and_sniffing(
    client: httpx.AsyncClient, locked: httpx.AsyncClient
) -> None:
    answers = [
        await client.get("/", headers=PAGE),
        await client.get("/api/v1/verdicts"),
        await client.get("/nowhere", headers=PAGE),
        await client.get("/static/pentimento.css"),
        await locked.get("/api/v1/verdicts"),
        await locked.get("/", headers=PAGE),
    ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_pages_hold_nothing_inline_and_nothing_from_elsewhere(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("whole", 61)
    for address in ("/", f"/verdicts/{gallery.tenant}/whole"):
        page = (await client.get(address, params={"tenant": gallery.tenant})).text
        assert " style=" not in page
        assert "<style" not in page
        assert " on" + "click" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
        assert page.count("<script") == page.count("<script src=")


@pytest.mark.parametrize("path", ["/api/v1/verdicts", "/api/v1/verdicts/t/u", "/metrics", "/pictures/upload/t/u"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])
async def test_without_the_token_nothing_is_told(locked: httpx.AsyncClient, path: str, headers: dict[str, str]) -> None:
    answer = await locked.get(path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:pentimento:problem:token_required"


async def test_an_upload_needs_the_token_too(locked: httpx.AsyncClient) -> None:
    files = {"image": ("a.jpg", photo(62))}
    assert (await locked.post("/api/v1/uploads", files=files)).status_code == 401
    assert (await locked.post("/api/v1/uploads", files=files, headers=BEARER)).status_code == 202


async def test_a_person_signs_in_once_and_gets_where_they_wanted(locked: httpx.AsyncClient) -> None:
    first = await locked.get("/?decision=rejected", headers=PAGE)
    assert first.status_code == 303
    assert first.headers["location"] == "/login?next=%2F%3Fdecision%3Drejected"
    assert 'name="next" value="/?decision=rejected"' in (await locked.get(first.headers["location"])).text
    wrong = await locked.post("/login", data={"token": "wrong", "next": "/"}, headers=PAGE)
    assert wrong.status_code == 401
    assert "That is not the token." in wrong.text
    assert "set-cookie" not in wrong.headers
    right = await locked.post("/login", data={"token": TOKEN, "next": "/?decision=rejected"})
    assert (right.status_code, right.headers["location"]) == (303, "/?decision=rejected")
    cookie = right.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert (await locked.get("/", headers=PAGE)).status_code == 200


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", "/\nx", "javascript:alert(1)", ""]
)
def test_the_login_leads_nowhere_else(target: str) -> None:
    assert local_path(target) == "/"


@pytest.mark.parametrize("path", ["//evil.example/x", "//evil.example?next=1"])
async def test_a_path_that_is_another_hosts_address_is_never_gone_on_to(locked: httpx.AsyncClient, path: str) -> None:
    address = httpx.URL("http://127.0.0.1").copy_with(raw_path=path.encode())
    asked = await locked.get(address, headers=PAGE)
    assert asked.headers["location"] == "/login?next=%2F"
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    onward = await locked.get(address, headers={**PAGE, **followed})
    assert onward.status_code == 200
    assert "evil.example" not in onward.text


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        WebToken("short")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin"}, 202),
        ({}, 202),
    ],
)
async def test_a_foreign_page_cannot_upload(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    answer = await client.post("/api/v1/uploads", files={"image": ("a.jpg", photo(63))}, headers=headers)
    assert answer.status_code == status


async def test_without_a_token_only_loopback_names_are_served(app: FastAPI, locked_app: FastAPI) -> None:
    async with calling(app, "rebound.evil.example") as foreign:
        answer = await foreign.get("/api/v1/verdicts")
    assert answer.status_code == 421
    assert answer.json()["type"] == "urn:pentimento:problem:wrong_host"
    async with calling(locked_app, "images.example.com") as named:
        assert (await named.get("/api/v1/verdicts", headers=BEARER)).status_code == 200


@pytest.mark.parametrize(
    ("host", "token", "refused"),
    [
        ("127.0.0.1", None, False), ("localhost", None, False), ("::1", None, False), ("127.3.2.1", None, False),
        ("0.0.0.0", None, True), ("::", None, True), ("10.0.0.5", None, True), ("", None, True),
        ("localhost.evil.example", None, True), ("0.0.0.0", TOKEN, False),
    ],
)  # fmt: skip
def test_beyond_loopback_a_token_is_a_must(host: str, token: str | None, refused: bool) -> None:
    assert (refusal(host, has_token=token is not None) is not None) == refused


async def test_probes_answer_without_a_token_in_the_words_of_the_work(locked: httpx.AsyncClient) -> None:
    assert (await locked.get("/healthz")).json() == {"alive": True}
    ready = await locked.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "parts": {"verdicts": "ok", "uploads": "ok", "pictures": "ok"}}


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "pentimento_verdicts_total" in answer.text


async def test_what_is_away_is_named_and_asked_for_again_later(parts: Parts) -> None:
    database = await Database.open("postgresql://127.0.0.1:1/none", pool_size=1, timeout_s=1)
    try:
        away = replace(
            parts, verdicts=Verdicts(database), reader=EventReader(KafkaConnection("127.0.0.1:1"), timeout_s=1)
        )
        async with calling(create_app(away, OPTIONS)) as client:
            answer = await client.get("/api/v1/verdicts")
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.json()["type"] == "urn:pentimento:problem:unavailable"
            assert "127.0.0.1" not in answer.text
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json()["parts"] == {"verdicts": "away", "uploads": "away", "pictures": "ok"}
            assert (await client.get("/healthz")).status_code == 200
    finally:
        await database.close()


async def test_an_unexpected_error_is_a_problem_without_a_traceback(parts: Parts) -> None:
    app = create_app(parts, OPTIONS)

    @app.get("/api/v1/bug")
    async def bug() -> None:
        raise RuntimeError("the secret inside")

    async with calling(app) as client:
        answer = await client.get("/api/v1/bug")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:pentimento:problem:broken"
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


async def test_an_unknown_path_is_a_page_for_people_and_json_for_programs(client: httpx.AsyncClient) -> None:
    page = await client.get("/nowhere", headers=PAGE)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (await client.get("/api/v1/nowhere", headers=PAGE)).headers["content-type"] == "application/problem+json"
    wrong = await client.delete("/api/v1/verdicts")
    assert wrong.status_code == 405
    assert wrong.json()["title"] == "Method not allowed"


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    assert {"/api/v1/verdicts", "/api/v1/uploads"} <= set(document["paths"])
    assert (await client.get("/docs", headers=PAGE)).status_code == 404
