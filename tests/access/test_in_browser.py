"""Access in a real Chromium: a link signs in, what pages send carries their token by itself, and axe finds nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from services.core.access import Role
from tests.access.conftest import WEB_TOKEN, House
from tests.web.chromium import CHROMIUM, QUIET, needs_chromium, watched
from tests.web.conftest import listening

SERIOUS = ("serious", "critical")

pytestmark = needs_chromium


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        await opened.close()


@pytest.fixture(params=["light", "dark"])
async def page(chromium: Browser, request: pytest.FixtureRequest) -> AsyncIterator[Page]:
    """A page whose complaints fail the test, in either scheme."""
    async with watched(chromium, color_scheme=request.param) as opened:
        yield opened


async def found_by_axe(page: Page) -> list[str]:
    results = await Axe().run(page)
    return [
        f"{page.url}: {each['id']}: {each['nodes'][0]['html']}"
        for each in results.response["violations"]
        if each["impact"] in SERIOUS
    ]


SENT = """async (address) => {
  const fetched = await fetch(address, { method: "DELETE" });
  const request = new XMLHttpRequest();
  const asked = new Promise((done) => { request.onload = () => done(request.status); });
  request.open("DELETE", address);
  request.send();
  return [fetched.status, await asked];
}"""
FORM = """() => {
  const form = document.createElement("form");
  form.method = "post";
  form.action = "/account/sessions/end";
  form.innerHTML = '<input name="id" value="9007199254740991"><button id="bare">Send</button>';
  document.querySelector("main").append(form);
}"""


async def test_a_link_signs_in_and_what_pages_send_carries_their_token(house: House, page: Page) -> None:
    ada = await house.account(Role.ADMIN, name="Ada Lovelace")
    async with listening(house.app) as base:
        await page.goto(f"{base}/enter#{await house.ticket(ada)}")
        await page.wait_for_url(f"{base}/")
        assert await page.evaluate("document.cookie") == ""
        await page.get_by_role("link", name="Ada Lovelace").click()
        await page.wait_for_url(f"{base}/account")
        assert await page.evaluate(SENT, "/api/v1/account/sessions/9007199254740991") == [200, 200]
        await page.evaluate(FORM)
        async with page.expect_response("**/account/sessions/end") as answered:
            await page.locator("#bare").click()
        assert (await answered.value).status == 303
        for path in ("/account", "/admin/people", "/admin/tokens", "/admin/audit"):
            await page.goto(base + path)
            assert await found_by_axe(page) == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= 1280
        await page.goto(f"{base}/admin/tokens")
        await page.get_by_label("Name").fill("by keyboard")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Copy it now")).to_be_visible()
        assert await found_by_axe(page) == []
        await page.goto(f"{base}/account")
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await page.wait_for_url(f"{base}/login?next=/")
        assert await found_by_axe(page) == []
        await page.get_by_label("Token").fill(WEB_TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{base}/")


async def test_a_link_of_another_site_finds_somebody_who_is_signed_in(house: House, page: Page) -> None:
    """`localhost` is another site than 127.0.0.1: the strict cookie stays back at first."""
    ada = await house.account(Role.VIEWER, name="Ada Lovelace")
    async with listening(house.app) as base:
        await page.goto(f"{base}/enter#{await house.ticket(ada)}")
        await page.wait_for_url(f"{base}/")
        await page.goto(f"{base.replace('127.0.0.1', 'localhost')}/enter")
        await page.evaluate("address => { location.href = address; }", f"{base}/account")
        await expect(page.get_by_role("heading", name="Ada Lovelace")).to_be_visible()
