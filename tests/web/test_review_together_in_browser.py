"""Several people at one queue, each in a Chromium profile of their own: taking over, escalating, skipping, bulk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from services.clients.review_cases import ReviewCases
from services.clients.review_claims import LockRules, ReviewClaims
from services.clients.review_queue import CaseFilter
from services.core.access import Person, Role
from services.core.policy import DEFAULT_POLICY
from services.core.review.cases import need
from services.web.app import create_app
from services.web.parts import Parts
from tests.access.conftest import Clock, House
from tests.web.chromium import LIVE, faults, needs_chromium, watched
from tests.web.conftest import OPTIONS, SIZE, TOKEN, Gallery, listening, photo
from tests.web.test_review_in_browser import PATIENT

pytestmark = needs_chromium

RULES = LockRules(lock=timedelta(seconds=PATIENT.lock_s), skip=timedelta(seconds=PATIENT.skip_s))
# What a refusal is answered with is no fault of the page; browsers write it on their console.
REFUSED = ("the server responded with a status of 409",)


@dataclass(frozen=True)
class Office:
    """People of one tenant, and a way to sit down before a browser as one of them."""

    house: House
    gallery: Gallery
    browser: Browser
    base: str
    pages: AsyncExitStack

    async def sits(self, name: str, role: Role) -> Page:
        """A page of somebody who came in by a one-time link."""
        account = await self.house.account(role, self.gallery.tenant, name=name)
        page = await self.pages.enter_async_context(watched(self.browser, ignored=REFUSED))
        await page.goto(f"{self.base}/enter#{await self.house.ticket(account)}")
        await page.wait_for_url(f"{self.base}/")
        return page

    async def begins(self, page: Page) -> str:
        """The address of the case that somebody gets from the queue."""
        await page.goto(f"{self.base}/review")
        await page.locator("#start:enabled").press("Enter")
        await page.wait_for_url("**/review/case/**")
        await page.wait_for_function(LIVE)
        await expect(page.locator("#lock")).to_contain_text("Yours until")
        return page.url

    async def looks(self, page: Page, case: str) -> None:
        """Opens a case by its address."""
        await page.goto(case)
        await page.wait_for_function(LIVE)


@pytest.fixture
async def office(parts: Parts, gallery: Gallery, browser: Browser) -> AsyncIterator[Office]:
    app = create_app(parts, replace(OPTIONS, token=TOKEN, review=PATIENT))
    house = House(parts, app, Clock(datetime.now(UTC)))
    async with listening(app) as base, AsyncExitStack() as pages:
        yield Office(house, gallery, browser, base, pages)


async def test_a_case_that_somebody_has_is_taken_over_by_leads_alone_and_its_moderator_hears_of_it(
    office: Office,
) -> None:
    await office.gallery.case("case", 101)
    ann, bob = await office.sits("Ann", Role.MODERATOR), await office.sits("Bob", Role.MODERATOR)
    lea = await office.sits("Lea", Role.LEAD)
    case = await office.begins(ann)
    await office.looks(bob, case)
    await expect(bob.locator("#banner-text")).to_contain_text("Ann has this case until")
    await expect(bob.locator("#take")).to_be_hidden()
    await expect(bob.get_by_role("radio", name="Manipulated")).to_be_disabled()
    await office.looks(lea, case)
    await expect(lea.get_by_role("button", name="Take over")).to_be_visible()
    assert await faults(lea) == {}
    await lea.keyboard.press("t")
    await expect(lea.locator("#lock")).to_contain_text("Yours until")
    for key in ("n", "2", "Enter"):
        await ann.keyboard.press(key)
    await expect(ann.locator("#fault")).to_contain_text("somebody took it over")
    await expect(ann.locator("#banner-text")).to_contain_text("Lea has this case until")
    for key in ("n", "2", "Enter"):
        await lea.keyboard.press(key)
    await expect(lea.locator("#title")).to_have_text("Nothing waits any more")


async def test_an_expired_lock_is_taken_over_by_any_moderator_with_a_key(office: Office) -> None:
    await office.gallery.case("case", 102)
    gone = Person("gone", "Gus", Role.MODERATOR, frozenset({office.gallery.tenant}))
    long_ago = datetime.now(UTC) - timedelta(hours=3)
    claims = ReviewClaims(office.house.parts.database, RULES)
    case_id = await claims.next(gone, CaseFilter(tenant=office.gallery.tenant), now=long_ago)
    bob = await office.sits("Bob", Role.MODERATOR)
    await office.looks(bob, f"{office.base}/review/case/{case_id}")
    await expect(bob.locator("#banner-text")).to_have_text("The lock of Gus has expired.")
    await expect(bob.get_by_role("button", name="Take over")).to_be_visible()
    await bob.keyboard.press("t")
    await expect(bob.locator("#lock")).to_contain_text("Yours until")
    await expect(bob.locator("#banner")).to_be_hidden()


async def test_what_is_escalated_reaches_the_leads_with_its_note_and_nobody_else(office: Office) -> None:
    await office.gallery.case("case", 103)
    bob, lea = await office.sits("Bob", Role.MODERATOR), await office.sits("Lea", Role.LEAD)
    case = await office.begins(bob)
    await bob.keyboard.press("e")
    await expect(bob.get_by_role("dialog", name="Escalate to a lead")).to_be_visible()
    assert await faults(bob) == {}
    await bob.keyboard.type("Is the sky <b>real</b>?")
    await bob.keyboard.press("Control+Enter")
    await expect(bob.locator("#title")).to_have_text("Nothing waits any more")
    await lea.goto(f"{office.base}/review?escalated=true")
    await expect(lea.locator("#queue li")).to_contain_text("escalated")
    assert await office.begins(lea) == case
    await expect(lea.locator("#findings .said")).to_contain_text("Bob, ")
    await expect(lea.locator("#findings .said")).to_contain_text("Is the sky <b>real</b>?")


async def test_a_skipped_case_makes_place_for_the_next_and_goes_to_somebody_else(office: Office) -> None:
    for number in range(2):
        await office.gallery.case(f"case-{number}", 104 + number)
    bob, ann = await office.sits("Bob", Role.MODERATOR), await office.sits("Ann", Role.MODERATOR)
    first = await office.begins(bob)
    await bob.keyboard.press("k")
    await bob.wait_for_url(lambda url: url != first)
    await bob.wait_for_function(LIVE)
    second = bob.url
    assert await office.begins(ann) == first
    await bob.keyboard.press("k")
    await expect(bob.locator("#title")).to_have_text("Nothing waits any more")
    await ann.keyboard.press("k")
    await ann.wait_for_url(lambda url: url != first)
    assert ann.url == second


async def variants(gallery: Gallery, count: int, seed: int) -> None:
    """So many uploads, each another file, made from one original: they are one case."""
    first = await gallery.case("variant-0", seed)
    for number in range(1, count):
        image = await gallery.stored(photo(seed + 1000 * number, SIZE, disc=True))
        verdict = await gallery.show(first.model_copy(update={"upload_id": f"variant-{number}", "image": image}))
        cases = ReviewCases(gallery.parts.database)
        await cases.follow(verdict, need(verdict, DEFAULT_POLICY), now=datetime.now(UTC))


@asynccontextmanager
async def cluster(page: Page) -> AsyncIterator[None]:
    """The uploads of a case, opened and closed by keyboard."""
    await page.keyboard.press("v")
    await expect(page.get_by_role("dialog", name="Uploads of this case")).to_be_visible()
    await expect(page.locator("#tiles input").first).to_be_focused()
    yield
    await page.keyboard.press("Enter")
    await expect(page.locator("#cluster")).to_be_hidden()


async def test_variants_of_one_original_are_decided_together_and_undone_together(office: Office) -> None:
    await variants(office.gallery, 4, 110)
    bob = await office.sits("Bob", Role.MODERATOR)
    case = await office.begins(bob)
    await expect(bob.locator("#variants")).to_contain_text("4 uploads")
    async with cluster(bob):
        await expect(bob.locator("#tiles li")).to_have_count(4)
        assert await faults(bob) == {}
        await bob.keyboard.press("a")
        await expect(bob.locator("#cluster-chosen")).to_have_text("4 of 4 chosen")
        await bob.keyboard.press("ArrowRight")
        await bob.keyboard.press(" ")  # all but the second
        await expect(bob.locator("#cluster-chosen")).to_have_text("3 of 4 chosen")
    await expect(bob.locator("#variants")).to_contain_text("Decides 3 of 4")
    for key in ("m", "1", "Control+Enter"):
        await bob.keyboard.press(key)
    await expect(bob.locator("#toast-text")).to_contain_text("3 uploads")
    await expect(bob.locator("#variants")).to_be_hidden()  # one of them waits still
    await bob.wait_for_function(LIVE)
    assert bob.url == case
    await bob.keyboard.press("u")
    await expect(bob.locator("#variants")).to_contain_text("4 uploads")
    await expect(bob.locator("#toast")).to_be_hidden()
    await bob.wait_for_function(LIVE)
    async with cluster(bob):
        await bob.keyboard.press("a")
    await bob.keyboard.press("Control+Enter")  # what was chosen is still chosen
    await expect(bob.locator("#title")).to_have_text("Nothing waits any more")
    assert await decided(office) == [(4, "undoable"), (3, "undone")]


async def decided(office: Office) -> list[tuple[int, str]]:
    """How many uploads each decision of the tenant is about, and its state, newest first."""
    lead = await office.house.bearer(Role.LEAD, office.gallery.tenant)
    async with httpx.AsyncClient(base_url=f"{office.base}/api/v1", headers=lead) as client:
        entries = (await client.get("/audit", params={"action": "review_decided"})).json()["entries"]
        found = []
        for entry in entries:
            one = (await client.get(f"/review/decisions/{entry['details']['decision_id']}")).json()
            found.append((one["uploads"], one["state"]))
    return found
