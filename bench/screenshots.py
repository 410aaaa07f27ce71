"""`python -m bench.screenshots`: pictures of the main pages for the documents, taken from the real stack.

In: `samples/`. Out: PNGs in `docs/screenshots/`, 1280 wide, light and dark, reduced to a palette to be small. Starts a
stack of its own, judges the samples, opens the pages in Chromium, and uploads some more while the overview and the
upload page are open, so that they show what they do. Every verdict is made a case here, so that the queue has something
to show; decisions of the verdicts are the models' own.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Literal

import httpx
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import Error as BrowserError

from bench.__main__ import ROOT, say
from services.cli.connections import opened_database, opened_door
from services.cli.originals import register_all
from services.cli.originals_waiting import not_prepared_within
from services.cli.sources import files
from services.cli.uploading import upload_all, verdicts_of
from services.clients.cases import Verdicts
from services.core.errors import PentimentoError, Unavailable
from services.core.policy import DEFAULT_POLICY
from services.local.options import StackOptions
from services.local.stack import running_stack
from services.settings import Settings, load_settings

TENANT = "newsroom"
FINDABLE_S, JUDGED_S, SEEN_S = 120.0, 300.0, 60.0
COLOURS = 256
WIDTH, HEIGHT = 1280, 720
SHOWN = ("windmill-giraffe.jpg", "sign-text.jpg", "windmill-again.jpg")  # what is uploaded while a page is open
# The chart, each piece that follows by itself, and the verdicts in the feed.
OVERVIEW_IS_WHOLE = """(verdicts) => document.querySelector("#plot canvas") !== null
    && [...document.querySelectorAll("[hx-get]")].every((piece) => piece.textContent.split(" ").length > 1)
    && document.querySelectorAll("#feed li").length >= verdicts"""
UPLOADS_ARE_JUDGED = "(files) => document.querySelectorAll('#sent li a').length >= files"
# Those in sight: a browser leaves pictures that load lazily alone while they are far below.
PICTURES_ARE_THERE = """() => [...document.images].every(
    (image) => image.complete || image.getBoundingClientRect().top > innerHeight)"""
UNBLURRED = "localStorage.setItem('pentimento-sight', JSON.stringify({ blur: false }))"


@dataclass(frozen=True, slots=True)
class Shot:
    """A page to take: where, how high, the keys to press on it, in which schemes. `uploading`: what is uploaded while
    it is open, `here` with its own form, or `elsewhere`, so that it is told."""

    name: str
    address: str
    keys: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("light", "dark")
    height: int = HEIGHT
    uploading: Literal["here", "elsewhere"] | None = None


def shots(verdict: str, case: str) -> tuple[Shot, ...]:
    """The main pages. Pictures are shown unblurred: they are ours."""
    return (
        Shot("evidence", verdict),
        Shot("difference", verdict, ("d",), ("dark",)),
        Shot("queue", f"/review?tenant={TENANT}"),
        Shot("review", case, ("m", "1")),
        Shot("mask", case, ("p",), ("light",)),
        Shot("verdicts", f"/?tenant={TENANT}", schemes=("light",)),
        Shot("search", f"/search?tenant={TENANT}&decision=manipulated", schemes=("light",), height=900),
        Shot("overview", "/overview", height=1080, uploading="elsewhere"),
        Shot("upload", "/upload", schemes=("light",), uploading="here"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where something did not work."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="pages to take; all unless said")
    options = parser.parse_args(arguments)
    chromium = which("chromium") or which("chromium-browser")
    if chromium is None:
        print("error: there is no chromium: `make browser` installs it", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            os.environ["PENTIMENTO_POLICY__FILE"] = str(_policy(Path(folder)))
            options.out.mkdir(parents=True, exist_ok=True)
            say("starting the stack")
            with running_stack(data, StackOptions()):
                asyncio.run(_taken(load_settings(data), chromium, options.out, options.only))
    except (PentimentoError, TimeoutError, httpx.HTTPError, BrowserError) as error:
        print(f"error: {error or 'the stack was not ready in time'}", file=sys.stderr)
        return 1
    return 0


def _policy(folder: Path) -> Path:
    """The built-in policy, but that every verdict becomes a case."""
    review = DEFAULT_POLICY.review.model_copy(update={"spot_check_share": 1.0})
    file = folder / "policy.json"
    file.write_text(DEFAULT_POLICY.model_copy(update={"review": review}).model_dump_json())
    return file


async def _taken(settings: Settings, chromium: str, out: Path, only: Sequence[str]) -> None:
    verdict = await _judged(settings)
    base = f"http://127.0.0.1:{settings.web.port}"
    case = await _case(base)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for shot in (each for each in shots(verdict, case) if not only or each.name in only):
            for scheme in shot.schemes:
                path = out / f"{shot.name}-{scheme}.png"
                path.write_bytes(_small(await _shot(browser, base, shot, scheme)))
                say(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
        await browser.close()


async def _judged(settings: Settings) -> str:
    """Registers the originals, submits the uploads, waits; the page of the verdict to show. Raises Unavailable."""
    async with opened_door(settings) as door:
        originals = files([ROOT / "samples" / "originals"])
        events = await register_all(door, originals, source="news agency", tenant=TENANT, sent=lambda: None)
        if missing := await not_prepared_within(settings, events, FINDABLE_S):
            raise Unavailable("originals", f"not every original is ready to be found: {missing}")
        uploads = files([ROOT / "samples" / "uploads"])
        sent = await upload_all(door, uploads, tenant=TENANT, sent=lambda: None)
    async with opened_database(settings) as database:
        found = await verdicts_of(Verdicts(database), sent, timeout_s=JUDGED_S, arrived=lambda: None)
    shown = {event.filename: event.upload_id for event in sent}["windmill-giraffe.jpg"]
    say(f"{len(found)} verdicts of {len(sent)} uploads")
    return f"/verdicts/{TENANT}/{shown}"


async def _case(base: str) -> str:
    """The page of the first case that has a picture with a mask, taken by us; pictures are not blurred for us."""
    async with httpx.AsyncClient(base_url=f"{base}/api/v1/review", timeout=30) as client:
        (await client.put("/settings", json={"blur": False})).raise_for_status()
        async with asyncio.timeout(SEEN_S):
            while True:
                cases = (await client.get("/queue", params={"tenant": TENANT, "limit": 50})).json()["cases"]
                likely = sorted(cases, key=lambda case: (case["decision"] != "manipulated", -case["members"]))
                if likely and likely[0]["decision"] == "manipulated":
                    (await client.post(f"/cases/{likely[0]['id']}/claim")).raise_for_status()
                    return f"/review/case/{likely[0]['id']}"
                await asyncio.sleep(0.2)


async def _shot(browser: Browser, base: str, shot: Shot, scheme: str) -> bytes:
    context = await browser.new_context(
        viewport={"width": WIDTH, "height": shot.height}, color_scheme="dark" if scheme == "dark" else "light"
    )
    context.set_default_timeout(SEEN_S * 1000)
    await context.add_init_script(UNBLURRED)
    page = await context.new_page()
    await page.goto(base + shot.address)
    match shot.uploading:
        case "here":
            await _uploaded_here(page)
        case "elsewhere":
            await _uploaded_elsewhere(page, base)
        case None:
            await _settled(page)
            for key in shot.keys:
                await page.keyboard.press(key)
            await _settled(page)
    await page.wait_for_function(PICTURES_ARE_THERE)
    picture = await page.screenshot(animations="disabled")
    await context.close()
    return picture


async def _settled(page: Page) -> None:
    """Waits until nothing more is fetched: everything that a page shows later comes over the network."""
    await page.wait_for_load_state("networkidle")
    await page.wait_for_function(PICTURES_ARE_THERE)


async def _uploaded_here(page: Page) -> None:
    """Chooses files in the page's form, sends them, and waits for a verdict of each."""
    await page.get_by_label("Tenant").fill(TENANT)
    await page.get_by_label("Pictures").set_input_files([ROOT / "samples" / "uploads" / name for name in SHOWN])
    await page.get_by_role("button", name="Upload", exact=True).click()
    await page.wait_for_function(UPLOADS_ARE_JUDGED, arg=len(SHOWN))


async def _uploaded_elsewhere(page: Page, base: str) -> None:
    """Uploads beside a page that is told of verdicts, and waits until all of it is there."""
    await page.get_by_text("connected", exact=True).wait_for()
    async with httpx.AsyncClient(base_url=base, timeout=30) as client:
        for name in SHOWN:
            files = {"image": (name, (ROOT / "samples" / "uploads" / name).read_bytes(), "image/jpeg")}
            (await client.post("/api/v1/uploads", data={"tenant": TENANT}, files=files)).raise_for_status()
    await page.wait_for_function(OVERVIEW_IS_WHOLE, arg=len(SHOWN))


def _small(png: bytes) -> bytes:
    """The same picture with a palette: a third of the bytes."""
    with Image.open(io.BytesIO(png)) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
