"""Search: by what is known of an upload, by a hash, by a picture; and as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from PIL import Image

from services.clients.audit import AuditFilter
from services.clients.candidates import Candidates, Picture
from services.clients.database import Database
from services.core.access import Person, Role
from services.core.events import StoredImage
from services.core.intake.examine import Limits, examine
from services.web.app import create_app
from services.web.parts import Parts, Sought
from services.web.problems import Refused
from services.web.search import Asked, Searching
from tests.web.conftest import NOON, OPTIONS, Gallery, calling

PAGE = {"accept": "text/html"}


async def found(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """The ids of the uploads that a search finds."""
    answer = await client.get("/api/v1/search", params=query)
    assert answer.status_code == 200, answer.text
    return [verdict["upload_id"] for verdict in answer.json()["verdicts"]]


async def test_conditions_of_every_kind_add_up(client: httpx.AsyncClient, gallery: Gallery) -> None:
    tenant = gallery.tenant
    forged = await gallery.manipulated("forged-1", 31, filename="Harbour 100%.JPG", judged_at=NOON)
    await gallery.no_evidence("clean-1", 32, filename="harbour_2.jpg", judged_at=NOON + timedelta(hours=1))
    await gallery.rejected("broken-1", judged_at=NOON + timedelta(hours=2))
    assert forged.image is not None
    for query, expected in (
        ({}, ["broken-1", "clean-1", "forged-1"]),
        ({"upload": "forged"}, ["forged-1"]),
        ({"upload": "orged"}, []),
        ({"file": "HARBOUR"}, ["clean-1", "forged-1"]),
        ({"file": "harbour 100%"}, ["forged-1"]),
        ({"file": "harbour_1"}, []),
        ({"sha256": forged.image.sha256.upper()}, ["forged-1"]),
        ({"original": "agency-31"}, ["forged-1"]),
        ({"decision": ["manipulated", "rejected"]}, ["broken-1", "forged-1"]),
        ({"path": "unconstrained"}, ["clean-1"]),
        ({"score_min": "0.9"}, ["forged-1"]),
        ({"score_max": "0.9"}, ["clean-1"]),
        ({"since": "2026-11-22T13:00", "until": "2026-11-22T14:00"}, ["clean-1"]),
        ({"file": "harbour", "decision": "manipulated", "since": "2026-11-22T12:30"}, []),
        ({"upload": "", "score_min": "", "distance": "", "since": ""}, ["broken-1", "clean-1", "forged-1"]),
    ):
        assert await found(client, tenant=tenant, **query) == expected, query


async def test_pages_of_a_search_follow_each_other_and_keep_what_was_asked(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    for number in range(5):
        await gallery.rejected(f"u-{number}", judged_at=NOON + timedelta(seconds=number // 2))
    await gallery.no_evidence("other", 33)
    seen: list[str] = []
    address: str | None = f"/api/v1/search?tenant={gallery.tenant}&limit=2&decision=rejected"
    while address:
        page = (await client.get(address)).json()
        assert (page["count"], page["more_than_counted"]) == (5, False)
        seen += [verdict["upload_id"] for verdict in page["verdicts"]]
        address = page.get("next")
    assert seen == ["u-4", "u-3", "u-2", "u-1", "u-0"]


async def test_a_search_is_a_link_and_its_page_repeats_what_was_asked(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("kept", 34, filename='"><script>alert(1)</script>.jpg')
    query = {"tenant": gallery.tenant, "file": '"><script>', "decision": "manipulated", "since": "2026-11-22T00:00"}
    for view in ("cards", "table"):
        page = (await client.get("/search", params=query | {"view": view}, headers=PAGE)).text
        assert "/kept" in page
        assert "<script>alert" not in page
        assert 'value="2026-11-22T00:00"' in page
        assert 'value="manipulated" checked' in page
    assert "view=table" in page
    assert "<b>1</b> verdict" in page


@pytest.mark.parametrize(
    "query",
    [{"sha256": "abc"}, {"score_min": "2"}, {"since": "yesterday"}, {"upload": "a\x00"}, {"cursor": "nonsense"}],
)
async def test_a_search_that_makes_no_sense_is_refused(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get("/api/v1/search", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_nobody_finds_what_belongs_to_others(parts: Parts, gallery: Gallery) -> None:
    stranger = Gallery(parts, f"{gallery.tenant}-other")
    await stranger.no_evidence("theirs", 35)
    await gallery.no_evidence("ours", 36)
    person = Person("p", "P", Role.ADMIN, frozenset({gallery.tenant}))
    searching = Searching(parts)
    page = await searching.find(person, Asked(), limit=10)
    assert [verdict.upload_id for verdict in page.verdicts] == ["ours"]
    with pytest.raises(Refused):
        await searching.find(person, Asked(tenant=stranger.tenant), limit=10)
    with pytest.raises(Refused):
        await searching.find(Person("q", "Q", Role.ADMIN, frozenset()), Asked(pdq="0" * 64), limit=10)


# -- by hash and by picture --------------------------------------------------------------------------------------------


async def registered(parts: Parts, gallery: Gallery, data: bytes, picture_id: str, *, trusted: bool) -> StoredImage:
    """A picture that uploads are compared with, as intake registers one."""
    examined = examine(data, Limits())
    image = await gallery.stored(data, (examined.width, examined.height))
    picture = Picture(gallery.tenant, picture_id, image, examined.fingerprint, trusted, "agency", NOON)
    await Candidates(parts.database).register(picture)
    return image


def cropped(data: bytes) -> bytes:
    """The same picture with a rim cut off, saved anew."""
    picture = Image.open(io.BytesIO(data))
    buffer = io.BytesIO()
    picture.crop((8, 6, picture.width - 8, picture.height - 6)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def textured(seed: int) -> bytes:
    """A picture with corners to hold on to."""
    import numpy as np

    blocks = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


async def test_a_dropped_picture_finds_its_original_and_earlier_uploads_and_leaves_no_trace(
    client: httpx.AsyncClient, parts: Parts, gallery: Gallery, database: Database
) -> None:
    original, upload = textured(1), cropped(textured(1))
    await registered(parts, gallery, original, "agency-1", trusted=True)
    image = await registered(parts, gallery, upload, "u-1", trusted=False)
    verdict = await gallery.rejected("u-1")
    await gallery.show(verdict.model_copy(update=await judged(image)))
    files, form = {"image": ("dropped.jpg", cropped(original))}, {"tenant": gallery.tenant}
    answer = await client.post("/api/v1/search/picture", files=files, data=form)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert {match["id"]: match["by"] for match in told["matches"]} == {"agency-1": "contents", "u-1": "file"}
    (mine,) = [match for match in told["matches"] if match["id"] == "u-1"]
    assert [each["decision"] for each in mine["verdicts"]] == ["no_evidence"]
    page = (await client.post("/search/picture", files=files, data=form, headers=PAGE)).text
    assert "agency-1" in page
    assert f"pdq={told['pdq']}" in page
    near = (await client.get(told["search"])).json()
    assert [each["upload_id"] for each in near["verdicts"]] == ["u-1"]
    assert max(near["distances"].values()) <= 31
    async with database.connection() as connection:
        rows = await (
            await connection.execute("select 1 from geometry where upload_sha256 = %s", [told["sha256"]])
        ).fetchall()
    assert rows == []
    entries = await parts.audit.find(AuditFilter(tenant=gallery.tenant))
    assert {entry.action for entry in entries} == {"searched_by_picture"}


async def judged(image: StoredImage) -> Mapping[str, Any]:
    """What makes a verdict of a rejected one: a picture and a decision about it."""
    from services.core.events import Decision, Path

    return {"revision": 1, "image": image, "decision": Decision.NO_EVIDENCE, "path": Path.UNCONSTRAINED, "score": 0.1}


@pytest.mark.parametrize(
    ("data", "code", "status"),
    [
        (b"no picture", "unsupported_type", 422),
        (b"", "empty", 422),
        (b"\xff" * 31_000_000, "too_large", 413),
    ],
)
async def test_a_file_that_is_no_picture_is_refused_like_an_upload(
    client: httpx.AsyncClient, data: bytes, code: str, status: int
) -> None:
    answer = await client.post("/api/v1/search/picture", files={"image": ("x.jpg", data)})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:pentimento:problem:{code}")


async def test_a_search_that_takes_too_long_is_told_to_come_again(bare: Parts) -> None:
    async def too_slow(_tenant: str, _data: bytes) -> Sought:
        raise TimeoutError

    async with calling(create_app(replace(bare, seek=too_slow), OPTIONS)) as client:
        answer = await client.post("/api/v1/search/picture", files={"image": ("x.jpg", b"a picture")})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:pentimento:problem:busy")


# -- as a file ---------------------------------------------------------------------------------------------------------


async def test_an_export_holds_everything_and_goes_on_where_it_was_cut_off(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    for number in range(5):
        await gallery.rejected(f"u-{number}", judged_at=NOON + timedelta(seconds=number // 2))
    query = {"tenant": gallery.tenant, "format": "jsonl"}
    lines = [json.loads(line) for line in (await client.get("/api/v1/search/export", params=query)).text.splitlines()]
    assert [line["upload_id"] for line in lines] == ["u-4", "u-3", "u-2", "u-1", "u-0"]
    rest = await client.get("/api/v1/search/export", params=query | {"cursor": lines[1]["cursor"]})
    assert [json.loads(line)["upload_id"] for line in rest.text.splitlines()] == ["u-2", "u-1", "u-0"]


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", " =1", "＝1"])
async def test_what_users_send_is_no_formula_in_a_spreadsheet(
    client: httpx.AsyncClient, gallery: Gallery, name: str
) -> None:
    await gallery.no_evidence("sheet", 37, filename=name)
    answer = await client.get("/api/v1/search/export", params={"tenant": gallery.tenant})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="verdicts.csv"'
    (line,) = csv.DictReader(io.StringIO(answer.text))
    assert line["filename"] == f"'{name}"
    assert line["score"] == "0.06"
