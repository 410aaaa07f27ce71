"""The webhooks' pages in a real Chromium: used by keyboard, light and dark, without findings of axe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from axe_playwright_python.async_playwright import Axe
from cryptography.fernet import Fernet
from playwright.async_api import Browser, Page
from pydantic import SecretStr

from services.settings import WebhookSettings
from services.web.app import create_app
from services.web.parts import Parts
from tests.web.chromium import needs_chromium
from tests.web.conftest import OPTIONS, listening

HOOKS = WebhookSettings(keys=(SecretStr(Fernet.generate_key().decode()),), allowed_hosts=("hooks.example.com",))

pytestmark = needs_chromium


async def serious(page: Page) -> list[str]:
    """What axe finds that keeps somebody from using the page."""
    found = await Axe().run(page)
    return [each["id"] for each in found.response["violations"] if each["impact"] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_admin_registers_and_pauses_by_keyboard(bare: Parts, browser: Browser, scheme: str) -> None:
    # Axe is put into the page by the test, which our policy forbids to everybody else.
    context = await browser.new_context(
        viewport={"width": 1280, "height": 720},
        color_scheme="dark" if scheme == "dark" else "light",
        bypass_csp=True,
    )
    page = await context.new_page()
    async with listening(create_app(bare, replace(OPTIONS, webhooks=HOOKS))) as base:
        await page.goto(f"{base}/admin/webhooks")
        assert await serious(page) == []
        await page.get_by_label("URL").focus()
        await page.keyboard.type("https://hooks.example.com/browser")
        await page.keyboard.press("Enter")
        secret = page.locator("#secret")
        assert (await secret.inner_text()).startswith("whsec_")
        assert await serious(page) == []
        await page.get_by_role("button", name="Pause").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Let it go on").wait_for()
        assert await secret.count() == 0
        assert await serious(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await context.close()
