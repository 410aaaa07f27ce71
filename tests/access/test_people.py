"""Administrators: people and tokens, by page and by API; nobody gives more than they have, nothing stored is run."""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import uuid4

import pytest

from services.clients.accounts import People
from services.core.access import Role
from tests.access.conftest import PAGE, House

WHO = "/api/v1/account"


def new(**changes: object) -> dict[str, object]:
    return {"subject": f"n-{uuid4().hex[:8]}", "role": "moderator", "tenants": ["acme"], **changes}


async def test_somebody_is_added_changed_and_disabled(house: House) -> None:
    boss = await house.account(Role.ADMIN)
    asked = new(name="Nora", email="nora@example.com")
    async with house.signed_in(boss) as browser:
        added = await browser.post("/api/v1/people", json=asked)
        assert added.status_code == 201
        assert added.json()["name"] == "Nora"
        assert (await browser.post("/api/v1/people", json=asked)).status_code == 409
        one = f"/api/v1/people/{asked['subject']}"
        assert (await browser.patch(one, json={"role": "lead"})).json()["tenants"] == ["acme"]
        assert (await browser.patch(one, json={"tenants": ["*"]})).json()["role"] == "lead"
        assert (await browser.patch(one, json={"disabled": True})).json()["disabled"] is True
        listed = (await browser.get("/api/v1/people?limit=200")).json()["people"]
        assert next(each for each in listed if each["subject"] == asked["subject"])["tenants"] == ["*"]
    actions = [each.action for each in await house.logged(subject=boss.subject)]
    assert actions[:4] == ["person_changed"] * 3 + ["person_added"]


async def test_somebody_without_tenants_is_disabled_and_let_in_again(house: House) -> None:
    known = await house.account(Role.VIEWER, "acme")
    bare = replace(known, subject=f"id.example.com/{uuid4().hex}", origin="oidc", tenants=frozenset())
    assert await People(house.parts.database).add(bare)
    async with house.signed_in(await house.account(Role.ADMIN)) as browser:
        for disabled in (True, False):
            changed = await browser.patch(f"/api/v1/people/{bare.subject}", json={"disabled": disabled})
            assert (changed.status_code, changed.json()["disabled"]) == (200, disabled)
        by_page = {"subject": bare.subject, "role": "viewer", "tenants": "", "disabled": "true"}
        assert (await browser.post("/admin/people/change", data=by_page)).status_code == 303
        refused = await browser.patch(f"/api/v1/people/{known.subject}", json={"tenants": []})
        assert refused.status_code == 422
    changed_to = await People(house.parts.database).get(bare.subject)
    assert changed_to is not None
    assert changed_to.disabled
    # Whoever has no tenants is within anybody's, and would be in the lists of other tests.
    await People(house.parts.database).change(replace(bare, tenants=known.tenants))


async def test_people_are_listed_page_by_page(house: House) -> None:
    for _ in range(3):
        await house.account(Role.VIEWER, "paged")
    async with house.calling() as program:
        headers, seen = await house.bearer(Role.ADMIN, "paged"), []
        address: str | None = "/api/v1/people?limit=1"
        while address is not None:
            page = (await program.get(address, headers=headers)).json()
            seen += [each["subject"] for each in page["people"]]
            address = page.get("next")
    assert len(seen) == 3
    assert seen == sorted(seen)


async def test_a_link_from_the_page_signs_that_person_in(house: House) -> None:
    nora = await house.account(Role.MODERATOR, "acme")
    async with house.signed_in(await house.account(Role.ADMIN)) as browser:
        page = (await browser.post("/admin/people/link", data={"subject": nora.subject})).text
    found = re.search(r"<pre>http://127\.0\.0\.1/enter#([\w-]+)</pre>", page)
    assert found is not None
    async with house.calling() as browser:
        await browser.post("/enter", data={"ticket": found.group(1)})
        assert (await browser.get(WHO)).json()["subject"] == nora.subject


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"role": "admin", "tenants": ["*"]}, 403), ({"tenants": ["other"]}, 403), ({"tenants": []}, 422),
        ({"tenants": ["a b"]}, 422), ({"tenants": ["a\x00"]}, 422), ({"subject": "local"}, 422),
        ({"subject": "a/b"}, 422), ({"role": "owner"}, 422), ({"role": "admin", "tenants": ["acme"]}, 201),
    ],
)  # fmt: skip
async def test_nobody_gives_more_than_they_have(house: House, change: dict[str, object], status: int) -> None:
    async with house.calling() as program:
        headers = await house.bearer(Role.ADMIN, "acme")
        assert (await program.post("/api/v1/people", json=new(**change), headers=headers)).status_code == status


async def test_an_administrator_of_one_tenant_neither_sees_nor_changes_those_of_others(house: House) -> None:
    other = await house.account(Role.VIEWER, "other")
    async with house.calling() as program:
        headers = await house.bearer(Role.ADMIN, "acme")
        listed = (await program.get("/api/v1/people?limit=200", headers=headers)).json()["people"]
        assert other.subject not in {each["subject"] for each in listed}
        one = f"/api/v1/people/{other.subject}"
        assert (await program.patch(one, json={"disabled": True}, headers=headers)).status_code == 404
        assert (await program.delete(f"{one}/sessions", headers=headers)).status_code == 404


async def test_nobody_changes_themselves(house: House) -> None:
    boss = await house.account(Role.ADMIN)
    async with house.signed_in(boss) as browser:
        answer = await browser.patch(f"/api/v1/people/{boss.subject}", json={"disabled": True})
    assert answer.json()["type"] == "urn:pentimento:problem:own_account"


# -- tokens ---------------------------------------------------------------------------------------------------------


async def test_a_token_is_shown_once_works_until_it_ends_and_can_be_revoked(house: House) -> None:
    async with house.signed_in(await house.account(Role.ADMIN)) as browser:
        made = (
            await browser.post("/api/v1/tokens", json={"name": "ci", "role": "viewer", "tenants": ["acme"], "days": 30})
        ).json()
        bearer = {"authorization": f"Bearer {made['secret']}"}
        async with house.calling() as program:
            known = (await program.get(WHO, headers=bearer)).json()
            assert (known["subject"], known["name"], known["tenants"]) == (f"token/{made['id']}", "ci", ["acme"])
            house.clock.later(minutes=2)
            assert made["secret"] not in (await browser.get("/admin/tokens")).text
            (listed,) = [
                each for each in (await browser.get("/api/v1/tokens")).json()["tokens"] if each["id"] == made["id"]
            ]
            assert listed["used_at"] is not None
            assert (await browser.delete(f"/api/v1/tokens/{made['id']}")).status_code == 204
            assert (await program.get(WHO, headers=bearer)).status_code == 401
        short = (
            await browser.post("/api/v1/tokens", json={"name": "x", "role": "viewer", "tenants": ["*"], "days": 1})
        ).json()
    house.clock.later(days=1, seconds=1)
    async with house.calling() as program:
        assert (await program.get(WHO, headers={"authorization": f"Bearer {short['secret']}"})).status_code == 401


async def test_a_token_of_ones_own_never_may_more_than_its_owner(house: House) -> None:
    boss, nora = await house.account(Role.ADMIN), await house.account(Role.LEAD, "acme", "labs")
    async with house.signed_in(nora) as browser:
        made = (await browser.post(f"{WHO}/tokens", json={"name": "mine"})).json()
    bearer = {"authorization": f"Bearer {made['secret']}"}
    async with house.signed_in(boss) as browser, house.calling() as program:
        known = (await program.get(WHO, headers=bearer)).json()
        assert (known["subject"], known["role"], known["tenants"]) == (nora.subject, "lead", ["acme", "labs"])
        one = f"/api/v1/people/{nora.subject}"
        await browser.patch(one, json={"role": "viewer", "tenants": ["acme", "more"]})
        known = (await program.get(WHO, headers=bearer)).json()
        assert (known["role"], known["tenants"]) == ("viewer", ["acme"])
        assert (await program.post(f"{WHO}/tokens", json={"name": "x"}, headers=bearer)).status_code == 403
        await browser.patch(one, json={"disabled": True})
        assert (await program.get(WHO, headers=bearer)).status_code == 401


async def test_nobody_revokes_anothers_token_as_their_own(house: House) -> None:
    async with house.signed_in(await house.account(Role.LEAD)) as browser:
        made = (await browser.post(f"{WHO}/tokens", json={"name": "mine"})).json()
    async with house.signed_in(await house.account(Role.LEAD)) as other:
        assert (await other.delete(f"{WHO}/tokens/{made['id']}")).status_code == 404


@pytest.mark.parametrize("number", [0, -1, 2**63, 99999999999999999999])
async def test_a_number_that_no_token_can_have_is_refused(house: House, number: int) -> None:
    async with house.signed_in(await house.account(Role.ADMIN)) as browser:
        for place in ("/account", "/admin"):
            assert (await browser.post(f"{place}/tokens/revoke", data={"id": number})).status_code == 422
        for place in (WHO, "/api/v1"):
            assert (await browser.delete(f"{place}/tokens/{number}")).status_code == 422


async def test_what_is_stored_is_shown_and_never_run(house: House) -> None:
    evil = '"><script>alert(1)</script>'
    boss = await house.account(Role.ADMIN, name=evil)
    await house.account(Role.VIEWER, name=evil)
    async with house.signed_in(boss) as browser:
        browser.headers["user-agent"] = evil
        await browser.post("/account/tokens", data={"name": evil})
        await browser.post("/admin/tokens", data={"name": evil, "tenants": "acme"})
        async with house.calling() as again:
            await again.post("/enter", data={"ticket": await house.ticket(boss)}, headers={"user-agent": evil})
        for path in ("/account", "/admin/people", "/admin/tokens", "/admin/audit"):
            page = await browser.get(path, headers=PAGE)
            assert page.status_code == 200
            assert "<script>alert" not in page.text
            assert "&lt;script&gt;alert" in page.text
            assert page.text.count("<script") == page.text.count("<script src=")
            assert " style=" not in page.text
            assert "default-src 'none'" in page.headers["content-security-policy"]
