"""Evidence and review in a real Chromium: by mouse, by keyboard alone, and what axe-core says about the pages."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.async_api import Page, expect

from services.settings import ReviewSettings
from services.web.app import create_app
from services.web.parts import Parts
from tests.web.chromium import LIVE, faults, needs_chromium
from tests.web.conftest import OPTIONS, SIZE, Gallery, listening

pytestmark = needs_chromium

PATIENT = ReviewSettings(undo_s=600)  # a machine under load takes its time between a decision and its undoing

SEEN = """(lens) => {
    const found = document.querySelector(`.upload [data-lens=${lens}]`);
    return found !== null && getComputedStyle(found).visibility === "visible";
}"""


@pytest.fixture(scope="session")
def patient_app(parts: Parts) -> FastAPI:
    return create_app(parts, replace(OPTIONS, review=PATIENT))


@pytest.fixture
async def base(patient_app: FastAPI) -> AsyncIterator[str]:
    async with listening(patient_app) as address:
        async with httpx.AsyncClient(base_url=address) as client:
            nothing = {"blur": None, "greyscale": None, "opacity": None, "theme": None}
            (await client.put("/api/v1/review/settings", json=nothing)).raise_for_status()
        yield address


async def state(page: Page, script: str) -> Any:
    return await page.evaluate(f"() => {{ const q = (s) => document.querySelector(s); return {script}; }}")


async def test_panes_move_together_and_each_way_of_comparing_shows_the_original(
    base: str, page: Page, gallery: Gallery
) -> None:
    await gallery.doubtful("forged", 71)
    await page.goto(f"{base}/verdicts/{gallery.tenant}/forged")
    await page.wait_for_function(LIVE)
    transforms = "[...document.querySelectorAll('.sheet')].map((s) => s.style.transform)"
    fitted = await state(page, transforms)
    await page.locator(".pane.upload").hover()
    await page.mouse.wheel(0, -800)
    zoomed = await state(page, transforms)
    assert len(set(zoomed)) == 1 and zoomed != fitted  # every layer of every pane, together
    assert await state(page, "q('.panes').classList.contains('pixelated')")
    await page.keyboard.press("0")
    assert await state(page, transforms) == fitted
    await page.get_by_role("button", name="8.3%").click()  # a region
    assert await state(page, transforms) != fitted
    await page.keyboard.press("d")
    await page.wait_for_function(LIVE)
    assert await page.evaluate(SEEN, "difference")
    await page.keyboard.press("w")
    assert await page.evaluate(SEEN, "aligned") and not await page.evaluate(SEEN, "difference")
    divider = page.get_by_role("slider", name="Boundary")
    await expect(divider).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await expect(divider).to_have_attribute("aria-valuenow", "48")
    await page.keyboard.press("f")
    await expect(page.locator(".pane.upload.swapped")).to_be_attached()  # the other picture comes by itself
    await page.keyboard.press("o")
    await expect(page.locator(".pane.original")).to_be_hidden()


async def test_where_motion_is_unwelcome_flicker_waits_for_a_key(base: str, page: Page, gallery: Gallery) -> None:
    await gallery.doubtful("forged", 72)
    await page.emulate_media(reduced_motion="reduce")
    await page.goto(f"{base}/verdicts/{gallery.tenant}/forged")
    await page.wait_for_function(LIVE)
    await page.keyboard.press("f")
    await expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press(" ")
    await expect(page.locator(".pane.upload.swapped")).to_be_attached()
    await page.keyboard.press(" ")
    await expect(page.locator(".pane.upload.swapped")).not_to_be_attached()


async def test_pictures_are_blurred_until_a_person_chooses_otherwise_and_the_choice_is_kept(
    base: str, page: Page, gallery: Gallery
) -> None:
    await gallery.doubtful("forged", 73)
    filtered = "getComputedStyle(q('[data-lens=upload]')).filter"
    address = f"{base}/verdicts/{gallery.tenant}/forged"
    await page.goto(address)
    await page.wait_for_function(LIVE)
    assert "blur" in await state(page, filtered)
    async with page.expect_response("**/api/v1/review/settings") as saved:
        await page.keyboard.press("b")
    assert (await saved.value).status == 200
    async with page.expect_response("**/api/v1/review/settings"):
        await page.keyboard.press("g")
    assert await state(page, filtered) == "grayscale(1)"
    await page.evaluate("localStorage.clear()")  # another machine
    await page.goto(address)
    await page.wait_for_function(LIVE)
    await expect(page.get_by_role("button", name="Blur")).to_have_attribute("aria-pressed", "false")
    assert await state(page, filtered) == "grayscale(1)"


async def test_a_moderator_reviews_by_keyboard_alone_undoes_and_corrects_a_mask(
    base: str, page: Page, gallery: Gallery
) -> None:
    for number in range(3):
        await gallery.case(f"case-{number}", 80 + number)
    press, title = page.keyboard.press, page.locator("#title")
    await page.goto(f"{base}/review?tenant={gallery.tenant}")
    await expect(page.locator("#queue li")).to_have_count(3)
    await press("Enter")
    await page.wait_for_url("**/review/case/**")
    await page.wait_for_function(LIVE)
    await expect(title).to_be_focused()
    first = page.url
    await press("Control+Enter")  # nothing was chosen: nothing happens
    await press("m")
    await expect(page.locator("#submit")).to_be_disabled()  # this decision needs a reason
    await press("1")
    await press("Control+Enter")
    await expect(page.locator("#toast")).to_contain_text("Manipulated: ")
    await page.wait_for_url(lambda url: url != first)
    await page.wait_for_function(LIVE)
    await expect(title).to_be_focused()

    await press("u")
    await page.wait_for_url(first)
    await page.wait_for_function(LIVE)
    await expect(page.locator("#toast")).to_be_hidden()
    await expect(page.get_by_role("radio", name="Manipulated")).to_be_checked()  # what was chosen is still chosen

    await widen_mask(page)
    await press("t")
    await page.keyboard.type("wider than the machine says, m or n")
    await press("Control+Enter")
    await page.wait_for_url(lambda url: url != first)
    await page.wait_for_function(LIVE)

    second = page.url
    for key in ("n", "2", "Enter"):
        await press(key)
    await page.wait_for_url(lambda url: url != second)
    await page.wait_for_function(LIVE)
    for key in ("c", "1", "Enter"):
        await press(key)
    await expect(title).to_have_text("Nothing waits any more")
    await expect(title).to_be_focused()
    await check_decisions(base, gallery)


async def widen_mask(page: Page) -> None:
    """A stroke to the left of the machine's mask, undone and done again."""
    press = page.keyboard.press
    await press("p")
    await expect(page.locator("#paint")).to_be_visible()
    await press("]")
    await press(" ")
    for _ in range(4):
        await press("Shift+ArrowLeft")
    await press(" ")
    await press("Control+z")
    await expect(page.locator("#correct")).to_contain_text("Correct mask")
    await press("Control+y")
    await expect(page.locator("#correct")).to_contain_text("Mask corrected")
    await press("p")
    await expect(page.locator("#paint")).to_be_hidden()


async def check_decisions(base: str, gallery: Gallery) -> None:
    async with httpx.AsyncClient(base_url=base) as client:
        decisions = (await client.get("/api/v1/review/decisions", params={"limit": 10})).json()["decisions"]
    ours = [each for each in decisions if each["tenant"] == gallery.tenant]
    assert [each["decision"] for each in ours] == ["inconclusive", "no_evidence", "manipulated", "manipulated"]
    assert [each["state"] for each in ours] == ["undoable"] * 3 + ["undone"]
    assert [each["has_mask"] for each in ours] == [False, False, True, False]
    assert ours[2]["comment"] == "wider than the machine says, m or n"
    mask = await drawn(gallery)
    assert mask.shape == (SIZE[1], SIZE[0])
    assert set(np.unique(mask)) == {0, 255}
    assert mask[120, 170] == 255 and mask[120, 220] == 255  # the stroke, from the middle, and the machine's own
    assert mask[20, 20] == 0


async def drawn(gallery: Gallery) -> Any:
    """The mask that was drawn for a case of the tenant."""
    async with gallery.parts.database.connection() as connection:
        query = "select mask_key from review_mask where tenant = %s"
        row = await (await connection.execute(query, [gallery.tenant])).fetchone()
    assert row is not None
    data = await gallery.parts.objects.get(row["mask_key"], 1_000_000)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "L"
        return np.asarray(picture)


async def test_no_page_has_a_serious_fault_for_people_who_see_or_hear_otherwise(
    base: str, page: Page, gallery: Gallery
) -> None:
    await gallery.case("case", 90)
    await gallery.no_evidence("clean", 91)
    tenant, found = gallery.tenant, {}
    for address in (
        f"/?tenant={tenant}",
        f"/verdicts/{tenant}/case",
        f"/verdicts/{tenant}/clean",
        f"/review?tenant={tenant}",
        "/review/stats",
    ):
        await page.goto(base + address)
        await page.wait_for_load_state("networkidle")
        found[address] = await faults(page)
    await page.goto(f"{base}/review?tenant={tenant}")
    await page.locator("#start:enabled").click()
    await page.wait_for_function(LIVE)
    await page.keyboard.press("m")
    found["a case"] = await faults(page)
    await page.keyboard.press("p")
    found["a correction"] = await faults(page)
    await page.keyboard.press("?")
    found["the shortcuts"] = await faults(page)
    await page.get_by_role("button", name="Close").press("Enter")
    await page.keyboard.press("Escape")  # done with the mask
    await page.keyboard.press("w")
    found["swipe"] = await faults(page)
    assert {where: each for where, each in found.items() if each} == {}
