"""The evidence behind a verdict: compared pictures, file facts, and what whoever decides must not see."""

from __future__ import annotations

import io

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from services.core.events import Decision, Path, Reason, VerdictReached
from tests.web.conftest import SECRET, SIZE, Gallery, photo


def opened(answer: httpx.Response) -> npt.NDArray[np.int16]:
    with Image.open(io.BytesIO(answer.content)) as picture:
        return np.asarray(picture.convert("RGB"), np.int16)


async def test_the_original_is_laid_onto_the_upload_and_their_difference_is_the_edit(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.doubtful("forged", 31)
    upload, original, difference = [
        await client.get(f"/pictures/{kind}/{gallery.tenant}/forged") for kind in ("upload", "aligned", "difference")
    ]
    for answer in (original, difference):
        assert answer.headers["content-type"] == "image/jpeg"
        assert SECRET not in answer.content
    assert opened(original).shape == opened(upload).shape == (SIZE[1], SIZE[0], 3)
    apart = np.abs(opened(original) - opened(upload)).mean(axis=2)
    assert apart[120, 223] > 30  # the disc
    assert np.median(apart) < 4  # everything else lies pixel over pixel
    assert opened(difference)[120, 223].mean() > 100
    assert np.median(opened(difference)) < 16


async def test_without_a_map_nothing_is_laid_onto_anything(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.manipulated("unmapped", 32)
    for kind in ("aligned", "difference"):
        answer = await client.get(f"/pictures/{kind}/{gallery.tenant}/unmapped")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:pentimento:problem:no_picture")
    assert "not aligned" in (await client.get(f"/verdicts/{gallery.tenant}/unmapped")).text


async def test_full_size_shows_real_pixels_up_to_a_limit(client: httpx.AsyncClient, gallery: Gallery) -> None:
    image = await gallery.stored(photo(33, (4400, 400)), (4400, 400))
    verdict = await gallery.no_evidence("panorama", 33)
    await gallery.show(verdict.model_copy(update={"revision": 1, "image": image}))
    answer = await client.get(f"/pictures/upload/{gallery.tenant}/panorama", params={"size": "full"})
    assert opened(answer).shape == (372, 4096, 3)


async def test_the_outline_leaves_the_inside_alone_and_the_decision_is_black_and_white(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("forged", 34)
    answer = await client.get(f"/pictures/outline/{gallery.tenant}/forged")
    with Image.open(io.BytesIO(answer.content)) as picture:
        layer = np.asarray(picture)
    assert layer[130, 245, 3] == 0
    assert layer[90, 245, 3] == 255
    answer = await client.get(f"/pictures/flagged/{gallery.tenant}/forged")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert (picture.mode, picture.size) == ("L", SIZE)
        assert np.unique(np.asarray(picture)).tolist() == [0, 255]


async def test_a_picture_is_that_of_the_revision_that_was_asked_for(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    verdict = await gallery.manipulated("revised", 35)
    await gallery.show(verdict.model_copy(update={"revision": 1, "mask": None, "path": Path.REVIEWED}))
    address = f"/pictures/mask/{gallery.tenant}/revised"
    assert (await client.get(address, params={"r": 0})).status_code == 200
    assert (await client.get(address, params={"r": 1})).status_code == 404
    assert (await client.get(address)).status_code == 404
    answer = await client.get(address, params={"r": 7})
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:pentimento:problem:no_revision")


async def related(gallery: Gallery) -> VerdictReached:
    """A doubtful verdict, one of the same picture, and two of the same original, one of which a person decided."""
    verdict = await gallery.doubtful("first", 36)
    again = verdict.model_copy(update={"upload_id": "again", "revision": 0})
    await gallery.show(again)
    other = await gallery.stored(photo(9036))
    await gallery.show(verdict.model_copy(update={"upload_id": "sibling", "image": other}))
    decided = {"decision": Decision.MANIPULATED, "path": Path.REVIEWED, "upload_id": "decided", "image": other}
    reason = Reason(code="reviewed", text="A moderator decided.")
    await gallery.show(verdict.model_copy(update={**decided, "reasons": (reason,)}))
    await gallery.show(
        verdict.model_copy(update={"revision": 2, "decision": Decision.MANIPULATED, "path": Path.REVIEWED})
    )
    return verdict


async def test_the_same_picture_and_the_same_original_are_found(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await related(gallery)
    found = (await client.get(f"/api/v1/evidence/{gallery.tenant}/first")).json()
    assert [each["upload_id"] for each in found["same_picture"]] == ["again"]
    assert {each["upload_id"] for each in found["same_original"]} == {"sibling", "decided"}
    assert found["aligned"] is True
    assert found["thresholds"]["manipulated_at"] == 0.8
    assert found["verdict"]["revision"] == 2


async def test_whoever_is_to_decide_sees_nothing_that_people_decided(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await related(gallery)
    query = {"r": 1, "blind": True}
    found = (await client.get(f"/api/v1/evidence/{gallery.tenant}/first", params=query)).json()
    assert [each["upload_id"] for each in found["same_original"]] == ["sibling"]
    assert found["verdict"]["decision"] == "inconclusive"
    fragment = (await client.get(f"/evidence/view/{gallery.tenant}/first", params=query)).text
    assert "decided" not in fragment.replace("undecided", "")
    assert "Revisions" not in fragment
    assert "Inconclusive" in fragment
    whole = (await client.get(f"/verdicts/{gallery.tenant}/first")).text
    assert "decided by a moderator" in whole


async def test_a_score_stands_between_the_lines_of_the_policy(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.doubtful("scored", 37)
    page = (await client.get(f"/verdicts/{gallery.tenant}/scored")).text
    assert "doubtful from 50%" in page and "manipulated from 80%" in page
    assert "of 100 pictures with this score, about 66 are manipulated" in page
    assert "reached by <code>default-0123456789</code>" in page


async def test_file_facts_are_told_as_a_part_of_the_page_and_as_json(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.doubtful("a/b", 38)
    assert (
        f'hx-get="/evidence/file/{gallery.tenant}/a%2Fb"'
        in (await client.get(f"/verdicts/{gallery.tenant}/a%2Fb")).text
    )
    facts = (await client.get(f"/api/v1/file-facts/{gallery.tenant}/a%2Fb")).json()
    assert facts["jpeg"]["quality"] == 90
    assert facts["marks"] == ["a comment"]
    part = (await client.get(f"/evidence/file/{gallery.tenant}/a%2Fb")).text
    assert "about quality 90" in part and "no GPS position" in part
    assert SECRET.decode() not in part


@pytest.mark.parametrize("path", ["/evidence/view", "/evidence/file", "/api/v1/evidence", "/api/v1/file-facts"])
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, gallery: Gallery, path: str) -> None:
    assert (await client.get(f"{path}/{gallery.tenant}/nothing")).status_code == 404


@pytest.mark.parametrize("path", ["/evidence/file", "/api/v1/file-facts"])
async def test_a_rejected_upload_has_no_file(client: httpx.AsyncClient, gallery: Gallery, path: str) -> None:
    await gallery.rejected("bad")
    assert (await client.get(f"{path}/{gallery.tenant}/bad")).status_code == 404
    assert (await client.get(f"/verdicts/{gallery.tenant}/bad")).status_code == 200
