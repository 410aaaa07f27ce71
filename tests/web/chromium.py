"""The Chromium that the browser tests drive, and what axe-core says about a page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOADED = "() => [...document.images].every(i => i.complete && i.naturalWidth > 0)"
LIVE = "() => document.querySelector('.evidence.live') && " + LOADED[6:]
"""The evidence view is there, with its pictures."""
SERVER_IS_GONE = "ERR_CONNECTION_REFUSED"  # a page may still ask for something when its server stops, at a test's end

expect.set_options(timeout=30_000)  # of a busy machine: what is waited for comes, be it late

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: `apt-get install chromium`")


@asynccontextmanager
async def watched(browser: Browser, *, ignored: Sequence[str] = (), **options: Any) -> AsyncIterator[Page]:
    """A page of a profile of its own, 1280 x 720. Fails in the end where the console complained, as it does about a
    broken security policy; not of what holds one of the `ignored` texts."""
    context = await browser.new_context(viewport={"width": 1280, "height": 720}, **options)
    opened = await context.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(text in message.text for text in (*ignored, SERVER_IS_GONE)):
            complaints.append(message.text)

    opened.on("console", hear)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    await context.close()
    assert complaints == []


async def faults(page: Page) -> dict[str, list[str]]:
    """What axe-core finds serious or critical on the page as it is, light and dark, in words; empty where nothing."""
    found = {"light": await _found(page, {"resultTypes": ["violations"]})}
    await page.emulate_media(color_scheme="dark")
    found["dark"] = await _found(page, {"runOnly": ["color-contrast"], "resultTypes": ["violations"]})
    await page.emulate_media(color_scheme="light")
    return {scheme: each for scheme, each in found.items() if each}


async def _found(page: Page, options: dict[str, list[str]]) -> list[str]:
    found = await Axe().run(page, options=options)
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]} {node['failureSummary'][:240]}"
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"][:5]
    ]
