"""A moderator with nothing but a keyboard before the running system: what they decide arrives on Kafka as revisions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from services.clients.events import EventReader
from services.core import topology
from services.core.envelope import decode
from services.core.events import Decision, VerdictReached
from services.core.events import Path as Way
from services.core.policy import DEFAULT_POLICY
from services.local.options import StackOptions
from services.local.stack import running_stack
from services.opening import kafka_connection
from services.settings import Settings, load_settings
from tests.web.chromium import CHROMIUM, LIVE, QUIET, needs_chromium
from tests.web.conftest import photo

CASES = 20
ARRIVED_S = 180.0
KEYS: tuple[Sequence[str], ...] = (("m", "1", "Control+Enter"), ("n", "2", "Enter"), ("c", "1", "Enter"))
DECISIONS = (Decision.MANIPULATED, Decision.NO_EVIDENCE, Decision.INCONCLUSIVE)


@needs_chromium
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_moderator_with_a_keyboard_decides_twenty_cases_and_each_becomes_a_revised_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = DEFAULT_POLICY.review.model_copy(update={"spot_check_share": 1.0})  # every verdict becomes a case
    policy = tmp_path / "policy.json"
    policy.write_text(DEFAULT_POLICY.model_copy(update={"review": everything}).model_dump_json())
    monkeypatch.setenv("PENTIMENTO_POLICY__FILE", str(policy))
    with running_stack(tmp_path / "data", StackOptions()):
        asyncio.run(moderated(load_settings(tmp_path / "data")))


async def moderated(settings: Settings) -> None:
    base = f"http://127.0.0.1:{settings.web.port}"
    async with httpx.AsyncClient(base_url=f"{base}/api/v1", timeout=60) as client:
        for number in range(CASES):
            files = {"image": (f"upload-{number}.jpg", photo(500 + number), "image/jpeg")}
            (await client.post("/uploads", files=files, data={"upload_id": f"upload-{number}"})).raise_for_status()
        async with asyncio.timeout(ARRIVED_S):
            while (await client.get("/review/queue")).json()["open"] < CASES:
                await asyncio.sleep(0.3)
    decided = await by_keyboard(base)
    assert len(decided) == CASES
    verdicts = await revised(settings)
    assert {upload: verdict.decision for upload, verdict in verdicts.items()} == {
        upload: decision for upload, (decision, _) in decided.items()
    }
    corrected = {upload for upload, (_, mask) in decided.items() if mask}
    (drawn_on,) = corrected
    mask = verdicts[drawn_on].mask
    assert mask is not None
    assert mask.qes > 0.999  # a machine's mask is never that sure


async def by_keyboard(base: str) -> dict[str, tuple[Decision, bool]]:
    """Decides every case; of the second one the first answer is undone, of the third one the mask is drawn.

    Returns what was decided of each upload, and whether its mask was corrected. No mouse is touched.
    """
    decided: dict[str, tuple[Decision, bool]] = {}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = await browser.new_page(viewport={"width": 1280, "height": 720})
        await page.goto(f"{base}/review")
        await expect(page.locator("#start")).to_be_enabled()
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/review/case/**")
        for number in range(CASES):
            await page.wait_for_function(LIVE)
            upload = (await page.locator("#title").inner_text()).removesuffix(".jpg")
            if number == 1:
                await taken_back(page)
            draws = number == 3
            if draws:
                await drawn(page)
            choice = 0 if draws else number % len(KEYS)
            before = page.url
            for key in KEYS[choice]:
                await page.keyboard.press(key)
            decided[upload] = (DECISIONS[choice], draws)
            if number < CASES - 1:
                await left(page, before)
        await expect(page.locator("#title")).to_have_text(re.compile("Nothing waits"))
        await browser.close()
    return decided


async def left(page: Page, case: str) -> None:
    """Waits until another page than this case's is shown."""
    await page.wait_for_url(lambda url: url != case)


async def taken_back(page: Page) -> None:
    """Decides what is not meant, and undoes it: the case is there again."""
    case = page.url
    for key in KEYS[0]:
        await page.keyboard.press(key)
    await left(page, case)
    await page.wait_for_function(LIVE)
    await page.keyboard.press("u")
    await page.wait_for_url(case)
    await page.wait_for_function(LIVE)


async def drawn(page: Page) -> None:
    """A stroke with the brush."""
    await page.keyboard.press("p")
    await expect(page.locator("#paint")).to_be_visible()
    await page.keyboard.press(" ")
    for _ in range(4):
        await page.keyboard.press("Shift+ArrowLeft")
    await page.keyboard.press(" ")
    await expect(page.locator("#correct")).to_contain_text("Mask corrected")
    await page.keyboard.press("p")
    await expect(page.locator("#paint")).to_be_hidden()


async def revised(settings: Settings) -> dict[str, VerdictReached]:
    """The verdicts on Kafka that a moderator revised, by upload; each upload has one such revision."""
    reader = EventReader(kafka_connection(settings.kafka))
    async with asyncio.timeout(ARRIVED_S):
        while True:
            messages = [message async for message in reader.read(topology.VERDICTS, until_end=True)]
            events = {verdict.event_id(): verdict for verdict in (decode(each, VerdictReached) for each in messages)}
            ours = [verdict for verdict in events.values() if verdict.path is Way.REVIEWED]
            found = {verdict.upload_id: verdict for verdict in ours}
            assert len(found) == len(ours)
            if len(found) == CASES:
                assert {verdict.revision for verdict in ours} == {1}
                return found
            await asyncio.sleep(0.5)
