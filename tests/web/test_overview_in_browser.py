"""Overview, search and upload in a real Chromium: they live, need no mouse, and axe finds nothing serious, by day or
night."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from axe_playwright_python.async_playwright import Axe
from fastapi import FastAPI
from playwright.async_api import Page, expect

from services.clients.candidates import Candidates, Picture
from services.core.intake.examine import Limits, examine
from services.web.parts import Parts
from tests.web.chromium import needs_chromium
from tests.web.conftest import NOON, Gallery, listening, photo
from tests.web.test_overview import buried, turned

pytestmark = needs_chromium


async def flawless(page: Page) -> None:
    """Nothing that axe calls serious or worse, in either scheme, and no scrolling sideways."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}  # nothing else changes by night
        found = (await Axe().run(page, options=rules)).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == [], scheme
    assert await page.evaluate("document.documentElement.scrollWidth") <= 1280


async def test_the_overview_draws_counts_and_shows_verdicts_as_they_arrive(
    app: FastAPI, page: Page, parts: Parts, gallery: Gallery
) -> None:
    await gallery.manipulated("before", 41, judged_at=datetime.now(UTC))
    at = await turned(parts, f"rounds/{gallery.tenant}")
    async with listening(app) as base:
        await page.goto(f"{base}/overview?tenant={gallery.tenant}")
        await expect(page.locator("#plot canvas")).to_be_visible()
        await expect(page.locator("#sum")).to_have_text("1 verdicts: Manipulated 1.")
        await expect(page.locator("#live-state")).to_have_text("connected")
        await gallery.no_evidence("arrives", 42, filename="<b>boat</b>.jpg")
        entry = page.get_by_role("link", name="<b>boat</b>.jpg")
        await expect(entry).to_be_visible()
        await page.get_by_role("button", name="Pause").press("Enter")
        await gallery.rejected("waits")
        await expect(page.get_by_role("button", name="Go on (1)")).to_be_visible()
        await page.get_by_role("button", name="Go on (1)").press("Enter")
        await expect(page.get_by_role("link", name="waits")).to_be_visible()
        await page.get_by_label("By").select_option("path")
        await expect(page.locator("#sum")).to_contain_text("against its original 1")
        await page.get_by_text("As a table").press("Enter")
        await expect(page.locator("#numbers tbody tr")).to_have_count(1)
        for piece in ("Object store", "Nothing was promoted yet", "Earlier uploads", f"report of round {at.id}"):
            await expect(page.get_by_text(piece)).to_be_visible()
        await flawless(page)
        await page.goto("about:blank")


async def test_an_administrator_redrives_a_dead_letter_by_keyboard(
    app: FastAPI, page: Page, parts: Parts, gallery: Gallery
) -> None:
    letter = await buried(parts, b'{"note": "<u>1</u>"}', gallery.tenant)
    async with listening(app) as base:
        await page.goto(f"{base}/overview/dead-letters")
        await flawless(page)
        row = page.locator("tr", has_text=gallery.tenant)
        await row.get_by_role("link").press("Enter")
        await page.wait_for_url(f"**/{letter.key()}")
        await expect(page.get_by_label("The message's value")).to_contain_text("<u>1</u>")
        await flawless(page)
        await page.get_by_role("button", name="Send it again").press("Enter")
        await expect(page.get_by_text("1 message was sent again.")).to_be_visible()
        await expect(page.locator("tr", has_text=gallery.tenant)).to_have_count(0)


async def test_a_person_searches_by_words_and_by_a_picture(
    app: FastAPI, page: Page, parts: Parts, gallery: Gallery, tmp_path: Path
) -> None:
    await gallery.manipulated("forged", 43, filename="harbour.jpg")
    await gallery.no_evidence("clean", 44, filename="market.jpg")
    data = photo(45)
    examined = examine(data, Limits())
    picture = Picture(gallery.tenant, "agency-45", await gallery.stored(data), examined.fingerprint, True, "a", NOON)
    await Candidates(parts.database).register(picture)
    (tmp_path / "dropped.jpg").write_bytes(data)
    async with listening(app) as base:
        await page.goto(f"{base}/search?tenant={gallery.tenant}")
        await page.get_by_label("File name").fill("HARB")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**file=HARB**")
        await expect(page.locator(".card")).to_have_count(1)
        await flawless(page)
        await page.get_by_role("link", name="table").click()
        await expect(page.get_by_role("row")).to_have_count(2)
        await flawless(page)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="CSV file").click()
        assert (await (await download.value).path()).read_text().count("\n") == 2
        await page.get_by_label("Picture", exact=True).set_input_files(tmp_path / "dropped.jpg")
        await page.get_by_role("button", name="Find this picture").press("Enter")
        await expect(page.get_by_role("heading", name="1 picture found")).to_be_visible()
        await expect(page.get_by_role("rowheader", name="agency-45")).to_be_visible()
        await flawless(page)


async def test_several_files_are_followed_to_their_verdicts_and_each_error_stands_by_its_file(
    app: FastAPI, page: Page, gallery: Gallery, tmp_path: Path
) -> None:
    for name, data in (("good.jpg", photo(46)), ("empty.jpg", b""), ("large.jpg", b"x" * 300_000)):
        (tmp_path / name).write_bytes(data)
    async with listening(app) as base:
        await page.goto(f"{base}/upload")
        await page.get_by_label("Tenant").fill(gallery.tenant)
        await page.get_by_label("Pictures").set_input_files(
            [tmp_path / name for name in ("empty.jpg", "good.jpg", "large.jpg")]
        )
        async with page.expect_response("**/api/v1/uploads") as sent:
            await page.get_by_role("button", name="Upload", exact=True).press("Enter")
        told = await (await sent.value).json()
        await expect(page.locator("#sent li", has_text="good.jpg")).to_contain_text("waits to be looked at")
        await expect(page.locator("#sent li", has_text="empty.jpg")).to_contain_text("The file is empty.")
        await expect(page.locator("#sent li", has_text="large.jpg")).to_contain_text("at most 200000 are allowed")
        await flawless(page)
        await gallery.no_evidence(told["upload_id"], 46)
        await page.get_by_role("link", name="Verdict for good.jpg").press("Enter")
        await page.wait_for_url(f"**{told['verdict'].removeprefix('/api/v1')}")


async def test_a_pair_is_sent_once_its_original_is_registered(
    app: FastAPI, page: Page, parts: Parts, gallery: Gallery, tmp_path: Path
) -> None:
    for name, seed in (("original.jpg", 47), ("picture.jpg", 48)):
        (tmp_path / name).write_bytes(photo(seed))
    async with listening(app) as base:
        await page.goto(f"{base}/upload")
        await page.get_by_label("Tenant").fill(gallery.tenant)
        await page.get_by_label("Original").set_input_files(tmp_path / "original.jpg")
        await page.get_by_label("Picture", exact=True).set_input_files(tmp_path / "picture.jpg")
        async with page.expect_response("**/api/v1/originals") as sent:
            await page.get_by_role("button", name="Register and upload").press("Enter")
        told = await (await sent.value).json()
        await expect(page.locator("#sent li", has_text="original.jpg")).to_contain_text("is registered as an original")
        fingerprint = examine(photo(47), Limits()).fingerprint
        image = await gallery.stored(photo(47))
        async with page.expect_response("**/api/v1/uploads") as uploaded:
            original = Picture(gallery.tenant, told["original_id"], image, fingerprint, True, "dashboard", NOON)
            await Candidates(parts.database).register(original)
        assert (await (await uploaded.value).json())["tenant"] == gallery.tenant
        await expect(page.locator("#sent li", has_text="original.jpg")).to_contain_text(
            "registered: uploads are compared"
        )
