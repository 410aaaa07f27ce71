"""Signing in and out: links that work once, sessions that end, forged requests, and addresses that guess."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from services.clients.accounts import People
from services.core.access import Role
from services.web.app import create_app
from tests.access.conftest import OPTIONS, PAGE, WEB_TOKEN, House
from tests.web.conftest import Gallery, calling

WHO = "/api/v1/account"


async def test_a_link_signs_somebody_in_once(house: House) -> None:
    ada = await house.account(Role.MODERATOR, "acme", name="Ada <script>")
    ticket = await house.ticket(ada)
    async with house.calling() as browser:
        entered = await browser.post("/enter", data={"ticket": ticket})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        known = (await browser.get(WHO)).json()
    assert (known["subject"], known["role"], known["tenants"]) == (ada.subject, "moderator", ["acme"])
    assert [each["current"] for each in known["sessions"]] == [True]
    async with house.calling() as browser:
        again = await browser.post("/enter", data={"ticket": ticket}, headers=PAGE)
        assert again.status_code == 401
        assert "used before" in again.text
        assert "set-cookie" not in again.headers
    stored = await People(house.parts.database).get(ada.subject)
    assert stored is not None
    assert stored.seen_at == house.clock.now()
    newest = (await house.logged(action="signed_in"))[0]
    assert (newest.subject, newest.details["by"]) == (ada.subject, "link")
    assert (await house.logged(action="sign_in_refused"))[0].details["by"] == "link"


async def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_plain_connections(house: House) -> None:
    ada = await house.account(Role.VIEWER)
    entered = []
    for app, base in (
        (house.app, "http://127.0.0.1"),
        (house.app, "https://127.0.0.1"),
        (behind_tls(house), "http://127.0.0.1"),
    ):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as browser:
            answer = await browser.post("/enter", data={"ticket": await house.ticket(ada)})
            entered.append(answer.headers["set-cookie"].lower())
    for cookie in entered:
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "domain=" not in cookie
    assert ["; secure" in cookie for cookie in entered] == [False, True, True]


def behind_tls(house: House) -> FastAPI:
    """The same app, where browsers come through a proxy that ends TLS."""
    public = replace(OPTIONS.sign_in, public_url="https://images.example.com")
    return create_app(house.parts, replace(OPTIONS, sign_in=public))


async def test_a_link_is_too_old_after_minutes(house: House) -> None:
    ticket = await house.ticket(await house.account(Role.VIEWER))
    house.clock.later(minutes=11)
    async with house.calling() as browser:
        assert (await browser.post("/enter", data={"ticket": ticket})).status_code == 401


async def test_a_session_ends_when_it_is_not_used(house: House) -> None:
    async with house.signed_in(await house.account(Role.VIEWER)) as browser:
        for _ in range(3):
            house.clock.later(minutes=50)
            assert (await browser.get(WHO)).status_code == 200
        house.clock.later(minutes=61)
        assert (await browser.get(WHO)).status_code == 401


async def test_a_session_ends_after_twelve_hours_however_much_it_is_used(house: House) -> None:
    async with house.signed_in(await house.account(Role.VIEWER)) as browser:
        for _ in range(14):
            assert (await browser.get(WHO)).status_code == 200
            house.clock.later(minutes=50)
        house.clock.later(minutes=21)
        assert (await browser.get(WHO)).status_code == 401


async def test_signing_out_ends_the_session_and_not_only_the_cookie(house: House) -> None:
    ada = await house.account(Role.VIEWER)
    async with house.signed_in(ada) as browser, house.signed_in(ada) as elsewhere:
        kept = dict(browser.cookies)
        left = await browser.post("/logout")
        assert (left.status_code, left.headers["location"]) == (303, "/login?next=/")
        assert dict(browser.cookies) == {}
        async with house.calling() as thief:
            thief.cookies.update(kept)
            assert (await thief.get(WHO)).status_code == 401
        assert (await elsewhere.get(WHO)).status_code == 200
    assert (await house.logged(action="signed_out"))[0].subject == ada.subject


async def test_all_sessions_of_somebody_can_be_ended(house: House) -> None:
    ada = await house.account(Role.VIEWER)
    async with house.signed_in(ada) as here, house.signed_in(ada) as there:
        assert (await here.delete(f"{WHO}/sessions")).json() == {"ended": 2}
        for browser in (here, there):
            assert (await browser.get(WHO)).status_code == 401


async def test_one_session_can_be_ended_and_nobody_elses(house: House) -> None:
    ada, eve = await house.account(Role.VIEWER), await house.account(Role.ADMIN)
    async with house.signed_in(ada) as browser, house.signed_in(eve) as other:
        (session,) = (await browser.get(WHO)).json()["sessions"]
        assert (await other.delete(f"{WHO}/sessions/{session['id']}")).json() == {"ended": 0}
        assert (await browser.post("/account/sessions/end", data={"id": session["id"]})).status_code == 303
        assert (await browser.get(WHO)).status_code == 401


@pytest.mark.parametrize("number", [0, -1, 2**63, 99999999999999999999])
async def test_a_number_that_no_session_can_have_is_refused(house: House, number: int) -> None:
    async with house.signed_in(await house.account(Role.VIEWER)) as browser:
        assert (await browser.delete(f"{WHO}/sessions/{number}")).status_code == 422
        assert (await browser.post("/account/sessions/end", data={"id": number})).status_code == 422
        assert (await browser.get(WHO)).status_code == 200


async def test_a_role_that_is_taken_away_is_gone_at_once(house: House) -> None:
    ada = await house.account(Role.ADMIN)
    async with house.signed_in(ada) as browser:
        assert (await browser.get("/api/v1/people")).status_code == 200
        await People(house.parts.database).change(replace(ada, role=Role.VIEWER))
        assert (await browser.get("/api/v1/people")).status_code == 403
        await People(house.parts.database).change(replace(ada, disabled=True))
        assert (await browser.get(WHO)).status_code == 401
    async with house.calling() as browser:
        assert (await browser.post("/enter", data={"ticket": await house.ticket(ada)})).status_code == 401


async def test_a_session_of_the_web_token_ends_with_that_token(house: House) -> None:
    async with house.calling() as browser:
        assert (await browser.post("/login", data={"token": WEB_TOKEN})).status_code == 303
        assert (await browser.get(WHO)).json()["subject"] == "web-token"
        changed = create_app(house.parts, replace(OPTIONS, token="another-long-enough-token"))
        async with calling(changed) as later:
            later.cookies.update(dict(browser.cookies))
            assert (await later.get(WHO)).status_code == 401


async def test_a_session_cannot_be_made_up(house: House) -> None:
    async with house.calling() as browser:
        for value in ("", "x", "9999999999.signature", "\u00b2\u00b3".encode().hex()):
            browser.cookies.set("pentimento_session", value)
            assert (await browser.get(WHO)).status_code == 401


# -- where nothing has to be signed in ------------------------------------------------------------------------------


async def test_the_open_loopback_address_needs_no_sign_in_and_knows_whoever_did(open_house: House) -> None:
    async with open_house.calling() as anybody:
        assert (await anybody.get(WHO)).json()["subject"] == "local"
    viewer = await open_house.account(Role.VIEWER, "acme")
    async with open_house.signed_in(viewer) as browser:
        assert (await browser.get(WHO)).json()["subject"] == viewer.subject
        assert (await browser.get("/api/v1/people")).status_code == 403


async def test_loopback_that_is_not_open_asks_for_a_link(open_house: House) -> None:
    closed = create_app(
        open_house.parts, replace(OPTIONS, token=None, sign_in=replace(OPTIONS.sign_in, open_on_loopback=False))
    )
    async with calling(closed) as browser:
        assert (await browser.get(WHO)).status_code == 401
        assert "pentimento people link" in (await browser.get("/login", headers=PAGE)).text
        ticket = await open_house.ticket(await open_house.account(Role.LEAD))
        assert (await browser.post("/enter", data={"ticket": ticket})).status_code == 303
        assert (await browser.get(WHO)).json()["role"] == "lead"
    async with calling(closed, "rebound.evil.example") as foreign:
        assert (await foreign.get(WHO)).status_code == 421


async def test_the_open_address_is_not_open_to_what_a_proxy_brings(open_house: House) -> None:
    transport = httpx.ASGITransport(open_house.app, client=("203.0.113.9", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as far:
        assert (await far.get(WHO)).status_code == 401


async def test_a_token_that_is_none_of_ours_is_not_overlooked(open_house: House) -> None:
    async with open_house.calling() as program:
        assert (await program.get(WHO, headers={"authorization": "Bearer pnt_wrong"})).status_code == 401


# -- forged requests ------------------------------------------------------------------------------------------------


async def test_a_change_needs_the_token_of_its_session(house: House) -> None:
    async with house.signed_in(await house.account(Role.VIEWER)) as browser:
        token = browser.headers.pop("x-csrf-token")
        attempts = [
            await browser.delete(f"{WHO}/sessions/1"),
            await browser.delete(f"{WHO}/sessions/1", headers={"x-csrf-token": "0" * 64}),
            await browser.post("/account/sessions/end", data={"id": "1"}),
            await browser.post("/account/sessions/end", data={"id": "1", "csrf": "wrong"}),
            await browser.post("/account/sessions/end", content=b'{"csrf": "x"}'),
        ]
        assert [answer.status_code for answer in attempts] == [403] * 5
        assert {answer.json()["type"] for answer in attempts} == {"urn:pentimento:problem:csrf_token_missing"}
        passed = [
            await browser.delete(f"{WHO}/sessions/1", headers={"x-csrf-token": token}),
            await browser.post("/account/sessions/end", data={"csrf": token, "id": "1"}),
            await browser.post("/account/sessions/end", data={"id": "1", "csrf": token}),
            await browser.post("/account/sessions/end", files={"csrf": (None, token), "id": (None, "1")}),
        ]
        assert [answer.status_code for answer in passed] == [200, 303, 303, 303]


async def test_the_field_is_found_before_a_large_file_and_the_file_arrives_whole(
    house: House, gallery: Gallery
) -> None:
    judged = await gallery.no_evidence("judged", 81)
    assert judged.image is not None
    async with house.signed_in(await house.account(Role.MODERATOR)) as browser:
        token = browser.headers.pop("x-csrf-token")
        names = {"csrf": (None, token), "tenant": (None, gallery.tenant), "upload_id": (None, "judged")}
        answer = await browser.post("/api/v1/uploads", files={**names, "image": ("a.jpg", b"x" * 200_000)})
        assert answer.json()["type"] == "urn:pentimento:problem:upload_id_taken"  # read, and known to be other bytes
        longer = await browser.post(
            "/api/v1/uploads", files={"csrf": (None, token), "image": ("a.jpg", b"x" * 200_001)}
        )
        assert longer.json()["type"] == "urn:pentimento:problem:too_large"


async def test_the_token_of_another_session_is_not_enough(house: House) -> None:
    ada = await house.account(Role.VIEWER)
    async with house.signed_in(ada) as browser, house.signed_in(ada) as other:
        browser.headers["x-csrf-token"] = other.headers["x-csrf-token"]
        assert (await browser.post("/logout")).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
async def test_a_foreign_page_is_refused_even_with_the_token(house: House, headers: dict[str, str]) -> None:
    async with house.signed_in(await house.account(Role.VIEWER)) as browser:
        assert (await browser.post("/logout", headers=headers)).json()["type"] == "urn:pentimento:problem:foreign_page"


async def test_a_program_with_a_bearer_needs_no_such_token(house: House) -> None:
    async with house.calling() as program:
        headers = await house.bearer(Role.VIEWER)
        assert (await program.delete(f"{WHO}/sessions", headers=headers)).status_code == 200


async def test_a_page_that_another_site_leads_to_is_asked_for_again_by_itself(house: House) -> None:
    """Browsers keep a strict cookie back then; the page in between is ours, and the next request has it."""
    followed = {**PAGE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    async with house.calling() as browser:
        between = await browser.get('/verdicts/acme/"><script>', headers=followed)
        assert between.status_code == 200
        assert 'http-equiv="refresh" content="0;url=/verdicts/acme/&#34;&gt;&lt;script&gt;"' in between.text
        again = await browser.get("/verdicts/acme/u", headers={**followed, "sec-fetch-site": "same-origin"})
        assert again.headers["location"] == "/login?next=%2Fverdicts%2Facme%2Fu"


# -- guessing -------------------------------------------------------------------------------------------------------


async def test_an_address_that_guesses_has_to_wait(house: House) -> None:
    async with house.calling() as guesser:
        for _ in range(3):
            assert (await guesser.post("/login", data={"token": "guess"})).status_code == 401
        for path, data in (("/login", {"token": WEB_TOKEN}), ("/enter", {"ticket": "guess"})):
            waiting = await guesser.post(path, data=data)
            assert waiting.status_code == 429
            assert 0 < int(waiting.headers["retry-after"]) <= 300
        assert (await guesser.get(WHO, headers={"authorization": "Bearer guess"})).status_code == 429
        assert (await guesser.get(WHO, headers=await house.bearer(Role.VIEWER))).status_code == 200
    elsewhere = httpx.ASGITransport(house.app, client=("203.0.113.7", 1))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://127.0.0.1") as other:
        assert (await other.post("/login", data={"token": WEB_TOKEN})).status_code == 303
    house.clock.later(minutes=6)
    async with house.calling() as later:
        assert (await later.post("/login", data={"token": WEB_TOKEN})).status_code == 303


async def test_refusals_are_written_down_but_not_at_the_pace_of_an_attack(house: House) -> None:
    before = len(await house.logged(action="sign_in_refused"))
    async with house.calling() as guesser:
        for _ in range(8):
            await guesser.get(WHO, headers={"authorization": "Bearer guess"})
    assert len(await house.logged(action="sign_in_refused")) - before == 3
