"""The pages in a real Chromium: pictures load, the mask fades, the keyboard works, nothing breaks our own policy."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.web.conftest import TOKEN, Gallery, listening

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOADED = "() => [...document.images].every(i => i.complete && i.naturalWidth > 0)"

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: `apt-get install chromium`")


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        await opened.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page that fails the test when the console complains, as it does about a broken security policy."""
    context = await browser.new_context(viewport={"width": 1280, "height": 720})
    opened = await context.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    opened.on("console", hear)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    await context.close()
    assert complaints == []


async def test_a_moderator_filters_opens_a_verdict_and_fades_its_mask(
    app: FastAPI, page: Page, gallery: Gallery
) -> None:
    await gallery.manipulated("forged-1", 81, filename="market.jpg")
    await gallery.no_evidence("clean-1", 82, filename="harbour.jpg")
    await gallery.rejected("broken-1", filename="broken.jpg")
    async with listening(app) as base:
        await page.goto(f"{base}/?tenant={gallery.tenant}")
        await page.wait_for_function(LOADED)
        assert await page.locator(".card").count() == 3
        await page.get_by_role("link", name="Manipulated 1").click()
        await page.wait_for_url("**decision=manipulated**")
        assert await page.locator(".card").count() == 1
        await page.get_by_role("link", name="Verdict for market.jpg").click()
        await page.wait_for_url("**/forged-1")
        await page.wait_for_function(LOADED)
        mask, boxes = page.locator("#mask"), page.locator(".boxes")
        slider = page.get_by_role("slider", name="Opacity of the mask")
        await slider.fill("0")
        assert await mask.evaluate("m => getComputedStyle(m).opacity") == "0"
        await slider.press("End")
        assert await mask.evaluate("m => getComputedStyle(m).opacity") == "1"
        assert not await boxes.is_visible()
        await page.get_by_label("Regions").check()
        assert await boxes.is_visible()
        upload = await page.locator(".upload .base").bounding_box()
        assert upload == await mask.bounding_box()


async def test_a_page_fits_a_narrow_screen(app: FastAPI, page: Page, gallery: Gallery) -> None:
    await gallery.manipulated("forged-2", 83, filename="a-very-long-name-without-any-place-to-break-" * 4 + ".jpg")
    await page.set_viewport_size({"width": 360, "height": 740})
    async with listening(app) as base:
        for address in (f"/?tenant={gallery.tenant}", f"/verdicts/{gallery.tenant}/forged-2"):
            await page.goto(base + address)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_a_person_signs_in_with_the_keyboard(locked_app: FastAPI, page: Page) -> None:
    async with listening(locked_app) as base:
        await page.goto(f"{base}/?decision=rejected")
        await expect(page.get_by_label("Token")).to_be_focused()  # by itself, a moment after the page has loaded
        await page.keyboard.type(TOKEN)
        await expect(page.get_by_label("Token")).to_have_value(TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{base}/?decision=rejected")
        assert await page.get_by_role("heading", name="Verdicts").is_visible()
        assert await page.evaluate("document.cookie") == ""  # scripts cannot see the session
