"""The pages in a real Chromium: pictures load, the mask fades, the keyboard works, nothing breaks our own policy."""

from __future__ import annotations

from fastapi import FastAPI
from playwright.async_api import Page, expect

from tests.web.chromium import LIVE, LOADED, needs_chromium
from tests.web.conftest import TOKEN, Gallery, listening

pytestmark = needs_chromium


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
        await page.wait_for_function(LIVE)
        marks, boxes = page.locator(".marks"), page.locator(".upload .boxes")
        slider = page.get_by_role("slider", name="Opacity of the mask")
        await slider.fill("0")
        assert await marks.evaluate("m => getComputedStyle(m).opacity") == "0"
        await slider.press("End")
        assert await marks.evaluate("m => getComputedStyle(m).opacity") == "1"
        assert not await boxes.is_visible()
        await page.get_by_role("button", name="Regions").click()
        assert await boxes.is_visible()
        upload = await page.get_by_role("img", name="The upload").bounding_box()
        assert upload == await page.locator("#mask").bounding_box()


async def test_a_page_fits_a_narrow_screen(app: FastAPI, page: Page, gallery: Gallery) -> None:
    await gallery.manipulated("forged-2", 83, filename="a-very-long-name-without-any-place-to-break-" * 4 + ".jpg")
    await page.set_viewport_size({"width": 360, "height": 740})
    async with listening(app) as base:
        for address in (f"/?tenant={gallery.tenant}", f"/verdicts/{gallery.tenant}/forged-2"):
            await page.goto(base + address)
            await page.wait_for_load_state("load")
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
