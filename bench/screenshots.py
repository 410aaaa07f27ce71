"""`python -m bench.screenshots`: pictures of the main pages for the documents, taken from the real stack.

In: `samples/`. Out: PNGs in `docs/screenshots/`, 1280 x 720, light and dark, reduced to a palette to be small. Starts a
stack of its own, judges the samples, opens the pages in Chromium. Every verdict is made a case here, so that the queue
has something to show; decisions of the verdicts are the models' own.
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

import httpx
from PIL import Image
from playwright.async_api import Browser, Page, async_playwright

from bench.__main__ import ROOT, say
from services.cli.connections import opened_database, opened_door
from services.cli.originals import not_findable_within, register_all
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
SIZE = {"width": 1280, "height": 720}
DRAWN = "() => document.querySelector('.uplot canvas') !== null"
PICTURES_ARE_THERE = "() => [...document.images].every((image) => image.complete)"


@dataclass(frozen=True, slots=True)
class Shot:
    """A page to take: where, the keys to press on it, and in which schemes. `streams`: its network is never quiet."""

    name: str
    address: str
    keys: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("light", "dark")
    streams: bool = False


def shots(verdict: str, case: str) -> tuple[Shot, ...]:
    """The main pages. Pictures are shown unblurred: they are ours."""
    return (
        Shot("evidence", verdict),
        Shot("difference", verdict, ("d",), ("dark",)),
        Shot("queue", f"/review?tenant={TENANT}"),
        Shot("review", case, ("m", "1")),
        Shot("mask", case, ("p",), ("light",)),
        Shot("verdicts", f"/?tenant={TENANT}", schemes=("light",)),
        Shot("overview", "/overview", schemes=("light",), streams=True),
        Shot("search", f"/search?tenant={TENANT}&decision=manipulated", schemes=("light",)),
        Shot("upload", "/upload", schemes=("light",)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 1 where something did not work."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
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
                asyncio.run(_taken(load_settings(data), chromium, options.out))
    except (PentimentoError, TimeoutError, httpx.HTTPError) as error:
        print(f"error: {error or 'the stack was not ready in time'}", file=sys.stderr)
        return 1
    return 0


def _policy(folder: Path) -> Path:
    """The built-in policy, but that every verdict becomes a case."""
    review = DEFAULT_POLICY.review.model_copy(update={"spot_check_share": 1.0})
    file = folder / "policy.json"
    file.write_text(DEFAULT_POLICY.model_copy(update={"review": review}).model_dump_json())
    return file


async def _taken(settings: Settings, chromium: str, out: Path) -> None:
    verdict = await _judged(settings)
    base = f"http://127.0.0.1:{settings.web.port}"
    case = await _case(base)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for shot in shots(verdict, case):
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
        if missing := await not_findable_within(settings, events, FINDABLE_S):
            raise Unavailable("originals", f"not every original can be found: {missing}")
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
    context = await browser.new_context(viewport=SIZE, color_scheme="dark" if scheme == "dark" else "light")  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(base + shot.address)
    await _settled(page, shot)
    for key in shot.keys:
        await page.keyboard.press(key)
    await _settled(page, shot)
    picture = await page.screenshot(animations="disabled")
    await context.close()
    return picture


async def _settled(page: Page, shot: Shot) -> None:
    """Waits until nothing more is fetched: everything that a page shows later comes over the network."""
    if shot.streams:
        await page.wait_for_function(DRAWN)
    else:
        await page.wait_for_load_state("networkidle")
    await page.wait_for_function(PICTURES_ARE_THERE)


def _small(png: bytes) -> bytes:
    """The same picture with a palette: a third of the bytes."""
    with Image.open(io.BytesIO(png)) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG", optimize=True)
        return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
