"""Uploads over HTTP, on real Kafka."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from services.core import topology
from services.core.envelope import Message, decode
from services.core.events import ImageUploaded, ObjectImage
from services.web.parts import Parts
from tests.web.conftest import OPTIONS, Gallery, photo

ADDRESS = "/api/v1/uploads"


async def sent(parts: Parts, upload_id: str) -> list[Message]:
    """The messages of an upload that Kafka holds."""
    messages = [message async for message in parts.reader.read(topology.UPLOADS, until_end=True)]
    return [message for message in messages if message.key == upload_id.encode()]


async def test_an_upload_is_stored_and_announced_before_it_is_accepted(client: httpx.AsyncClient, parts: Parts) -> None:
    data, upload_id = photo(41), f"mine-{uuid4()}"
    answer = await client.post(
        ADDRESS, files={"image": ("holiday.jpg", data)}, data={"upload_id": upload_id, "tenant": "shop"}
    )
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/verdicts/shop/{upload_id}"
    (message,) = await sent(parts, upload_id)
    event = decode(message, ImageUploaded)
    assert answer.json()["event_id"] == event.event_id() == (message.header("ce_id") or b"").decode()
    assert (event.tenant, event.filename, event.sha256) == ("shop", "holiday.jpg", hashlib.sha256(data).hexdigest())
    assert isinstance(event.image, ObjectImage)
    assert await parts.objects.get(event.image.object_key, 10**6) == data
    assert message.header("ce_source") == b"/test/web"
    assert (message.header("traceparent") or b"").startswith(b"00-")


async def test_an_upload_without_an_id_is_given_one(client: httpx.AsyncClient, parts: Parts) -> None:
    answer = (await client.post(ADDRESS, files={"image": ("a.jpg", photo(42))})).json()
    assert answer["tenant"] == "default"
    assert len(await sent(parts, answer["upload_id"])) == 1


async def test_repeating_an_upload_gives_the_same_event_id(client: httpx.AsyncClient, parts: Parts) -> None:
    data, upload_id = photo(43), f"again-{uuid4()}"
    answers = [
        await client.post(ADDRESS, files={"image": ("a.jpg", data)}, data={"upload_id": upload_id}) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    ids = {(message.header("ce_id") or b"") for message in await sent(parts, upload_id)}
    assert len(ids) == 1


async def test_an_id_that_was_judged_with_other_bytes_is_a_conflict(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.no_evidence("taken", 44)
    form = {"upload_id": "taken", "tenant": gallery.tenant}
    other = await client.post(ADDRESS, files={"image": ("a.jpg", photo(45))}, data=form)
    assert other.status_code == 409
    assert other.json()["type"] == "urn:pentimento:problem:upload_id_taken"
    same = await client.post(ADDRESS, files={"image": ("a.jpg", photo(44))}, data=form)
    assert same.status_code == 202


async def test_a_file_above_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    slightly = await client.post(ADDRESS, files={"image": ("big.jpg", b"x" * (OPTIONS.max_bytes + 1))})
    assert slightly.status_code == 413
    announced = await client.post(ADDRESS, files={"image": ("big.jpg", b"x" * (2 * OPTIONS.max_bytes))})
    assert announced.status_code == 413
    assert announced.json()["type"] == "urn:pentimento:problem:too_large"


async def test_a_body_of_unknown_length_is_cut_off_at_the_limit(client: httpx.AsyncClient) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        while taken < 50 * OPTIONS.max_bytes:
            taken += 50_000
            yield b"x" * 50_000

    answer = await client.post(
        ADDRESS, content=endless(), headers={"content-type": "multipart/form-data; boundary=cut"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({"files": {"picture": ("a.jpg", b"x")}}, 422, "no_image"),
        ({"data": {"image": "text"}, "files": {"other": ("a", b"x")}}, 422, "no_image"),
        ({"files": {"image": ("a.jpg", b"")}}, 422, "empty"),
        ({"files": {"image": ("a.jpg", b"x")}, "data": {"tenant": "../etc"}}, 422, "invalid_form"),
        ({"files": {"image": ("a.jpg", b"x")}, "data": {"upload_id": "a\nb"}}, 422, "invalid_form"),
        ({"files": {"image": ("a.jpg", b"x")}, "data": {"upload_id": "x" * 201}}, 422, "invalid_form"),
        ({"json": {"image": "x"}}, 415, "not_multipart"),
        ({"content": b"junk", "headers": {"content-type": "multipart/form-data"}}, 422, "invalid_form"),
        ({"files": [("image", ("a", b"x")), ("image", ("b", b"y"))]}, 422, "invalid_form"),
    ],
)
async def test_a_form_that_cannot_be_used_says_why(
    client: httpx.AsyncClient, form: dict[str, object], status: int, code: str
) -> None:
    answer = await client.post(ADDRESS, **form)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:pentimento:problem:{code}"
    assert answer.json()["detail"]
