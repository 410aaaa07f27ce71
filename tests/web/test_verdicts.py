"""Verdicts as pages and as JSON."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest

from services.clients.cases import Cursor
from services.core.events import Decision, Path, VerdictReached
from services.web.problems import Refused
from services.web.verdicts import read_cursor, write_cursor
from tests.web.conftest import NOON, Gallery


async def test_the_list_shows_the_newest_verdicts_with_decision_reason_and_pictures(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("older", 1)
    await gallery.rejected("newer", judged_at=NOON + timedelta(minutes=1))
    page = (await client.get("/", params={"tenant": gallery.tenant})).text
    assert page.index("/newer") < page.index("/older")
    assert "8.3% of the picture differs from agency-1." in page
    assert f"/pictures/upload/{gallery.tenant}/older?size=thumb" in page
    assert f"/pictures/mask/{gallery.tenant}/older?size=thumb" in page
    assert f"/pictures/upload/{gallery.tenant}/newer" not in page
    assert "The image ends before its picture does." in page


async def test_the_list_is_filtered_by_decision_and_counts_every_one(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("forged", 2)
    await gallery.no_evidence("clean", 3)
    page = (await client.get("/", params={"tenant": gallery.tenant, "decision": "no_evidence"})).text
    assert "clean" in page
    assert "forged" not in page
    assert "All <b>2</b>" in page
    assert "Manipulated <b>1</b>" in page


async def test_pages_follow_each_other_without_gaps_or_repetitions(client: httpx.AsyncClient, gallery: Gallery) -> None:
    # Two verdicts share each moment, so that the cursor has to tell them apart.
    for number in range(7):
        await gallery.rejected(f"u-{number}", judged_at=NOON + timedelta(seconds=number // 2))
    seen: list[str] = []
    address: str | None = f"/api/v1/verdicts?tenant={gallery.tenant}&limit=3&decision=rejected"
    while address:
        page = (await client.get(address)).json()
        seen += [verdict["upload_id"] for verdict in page["verdicts"]]
        address = page.get("next")
    assert seen == [f"u-{number}" for number in range(6, -1, -1)]


async def test_the_list_page_links_to_the_older_ones(client: httpx.AsyncClient, gallery: Gallery) -> None:
    for number in range(26):
        await gallery.rejected(f"u-{number:02}", judged_at=NOON + timedelta(seconds=number))
    first = (await client.get("/", params={"tenant": gallery.tenant})).text
    assert first.count('class="card"') == 24
    link = first.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    second = (await client.get(link)).text
    assert second.count('class="card"') == 2
    assert "u-00" in second


async def test_json_is_the_very_event(client: httpx.AsyncClient, gallery: Gallery) -> None:
    verdict = await gallery.manipulated("twin", 4)
    listed = (await client.get("/api/v1/verdicts", params={"tenant": gallery.tenant})).json()
    assert VerdictReached.model_validate(listed["verdicts"][0]) == verdict
    assert "reused_from" not in listed["verdicts"][0]
    one = (await client.get(f"/api/v1/verdicts/{gallery.tenant}/twin")).json()
    assert VerdictReached.model_validate(one["verdict"]) == verdict


async def test_a_verdict_is_shown_in_its_newest_revision_with_all_of_them(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    first = await gallery.manipulated("revised", 5)
    await gallery.show(
        first.model_copy(update={"revision": 1, "decision": Decision.NO_EVIDENCE, "path": Path.REVIEWED})
    )
    answer = (await client.get(f"/api/v1/verdicts/{gallery.tenant}/revised")).json()
    assert answer["verdict"]["revision"] == 1
    assert [each["revision"] for each in answer["revisions"]] == [0, 1]
    page = (await client.get(f"/verdicts/{gallery.tenant}/revised")).text
    assert "decided by a moderator" in page
    assert "against its original" in page


async def test_a_page_tells_everything_a_moderator_needs(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.manipulated("whole", 6, filename="holiday.jpg")
    page = (await client.get(f"/verdicts/{gallery.tenant}/whole")).text
    for wanted in (
        "holiday.jpg", "Manipulated", "93%", "8.3% of the picture differs", "agency-6", "news agency", "vouched for",
        "211 inliers", "0.1.0+0123456789ab", "default-0123456789", "pdq-1/3", "1.3 s", "0.91",
    ):  # fmt: skip
        assert wanted in page, wanted


async def test_a_page_says_which_evidence_was_missing_known_to_it_or_not(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    verdict = await gallery.no_evidence("noted", 7)
    notes = ("no_jpeg_history", "of_a_newer_release")
    await gallery.show(verdict.model_copy(update={"revision": 1, "notes": notes}))
    page = (await client.get(f"/verdicts/{gallery.tenant}/noted")).text
    assert "The file is no JPEG" in page
    assert "<code>of_a_newer_release</code>" in page


@pytest.mark.parametrize("upload_id", ["a/b/c", "/leading", "ünï cödé", "50%2F", "a?b#c", "<b>&\"'", "x" * 200])
async def test_any_upload_id_can_be_linked_to(client: httpx.AsyncClient, gallery: Gallery, upload_id: str) -> None:
    await gallery.manipulated(upload_id, 7)
    address = f"/verdicts/{gallery.tenant}/{quote(upload_id, safe='')}"
    assert address in (await client.get("/", params={"tenant": gallery.tenant})).text
    assert (await client.get(address)).status_code == 200
    assert (await client.get(f"/api/v1{address}")).json()["verdict"]["upload_id"] == upload_id
    picture = f"/pictures/mask/{gallery.tenant}/{quote(upload_id, safe='')}"
    assert (await client.get(picture)).headers["content-type"] == "image/png"


async def test_what_users_send_is_never_markup(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.no_evidence("<img src=x onerror=alert(1)>", 8, filename="<script>alert(1)</script>.jpg")
    page = (await client.get("/", params={"tenant": gallery.tenant})).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in page


async def test_an_unknown_upload_is_not_found_as_page_and_as_json(client: httpx.AsyncClient) -> None:
    page = await client.get("/verdicts/default/unknown", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert "There is no verdict for upload" in page.text
    answer = await client.get("/api/v1/verdicts/default/unknown")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:pentimento:problem:no_verdict"
    assert "unknown" in answer.json()["detail"]


@pytest.mark.parametrize(
    "cursor", ["nonsense", "W10", "WyJub3cgLSAxIiwgInQiLCAidSJd", "ÄÖ", "WyIyMDI2LTAxLTAxIiwxLDJd"]
)
async def test_a_foreign_cursor_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/api/v1/verdicts", params={"cursor": cursor})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:pentimento:problem:invalid_cursor"


@pytest.mark.parametrize("query", [{"decision": "authentic"}, {"limit": "0"}, {"limit": "1000"}, {"tenant": "a\x00b"}])
async def test_a_query_that_makes_no_sense_is_refused(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/api/v1/verdicts", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_cursor_survives_being_written_and_read() -> None:
    cursor = Cursor(NOON, "t", 'ü"/\\ x')
    assert read_cursor(write_cursor(cursor)) == cursor
    with pytest.raises(Refused):
        read_cursor(write_cursor(cursor)[:-4])


async def test_an_empty_list_says_how_to_begin(client: httpx.AsyncClient, gallery: Gallery) -> None:
    assert "pentimento submit" in (await client.get("/", params={"tenant": gallery.tenant})).text
