"""Pictures: re-encoded, small, and only those of a verdict."""

from __future__ import annotations

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from services.core.events import StoredImage
from tests.web.conftest import SECRET, SIZE, Gallery, photo


async def test_an_upload_is_served_as_a_jpeg_of_ours_and_never_as_it_came(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    verdict = await gallery.manipulated("forged", 21)
    assert verdict.image is not None
    stored = await gallery.parts.objects.get(verdict.image.object_key, 1_000_000)
    assert SECRET in stored
    answer = await client.get(f"/pictures/upload/{gallery.tenant}/forged")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert SECRET not in answer.content
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == SIZE


async def test_a_thumbnail_is_small(client: httpx.AsyncClient, gallery: Gallery) -> None:
    image = await gallery.stored(photo(22, (1600, 900)), (1600, 900))
    verdict = await gallery.no_evidence("wide", 22)
    await gallery.show(verdict.model_copy(update={"revision": 1, "image": image}))
    for size, side in (("thumb", 400), ("view", 1280)):
        answer = await client.get(f"/pictures/upload/{gallery.tenant}/wide", params={"size": size})
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert max(picture.size) == side


async def test_a_mask_is_a_transparent_layer_that_is_opaque_where_it_flags(
    client: httpx.AsyncClient, gallery: Gallery
) -> None:
    await gallery.manipulated("forged", 23)
    answer = await client.get(f"/pictures/mask/{gallery.tenant}/forged")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.mode == "RGBA"
        layer = np.asarray(picture)
    assert layer.shape == (SIZE[1], SIZE[0], 4)
    assert layer[20, 20, 3] == 0
    assert layer[130, 245, 3] > 100
    assert layer[90, 245, 3] == 255  # the outline


async def test_the_original_is_served_beside_it(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.manipulated("forged", 24)
    ours = (await client.get(f"/pictures/upload/{gallery.tenant}/forged")).content
    answer = await client.get(f"/pictures/original/{gallery.tenant}/forged")
    assert answer.status_code == 200
    assert answer.content != ours


async def test_a_picture_that_a_browser_has_is_not_drawn_again(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.manipulated("forged", 25)
    first = await client.get(f"/pictures/mask/{gallery.tenant}/forged")
    again = await client.get(
        f"/pictures/mask/{gallery.tenant}/forged", headers={"if-none-match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    assert "private" in first.headers["cache-control"]


@pytest.mark.parametrize("kind", ["upload", "mask", "original"])
async def test_a_rejected_upload_has_no_pictures(client: httpx.AsyncClient, gallery: Gallery, kind: str) -> None:
    await gallery.rejected("bad")
    answer = await client.get(f"/pictures/{kind}/{gallery.tenant}/bad")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:pentimento:problem:no_picture"


async def test_another_kind_of_picture_is_refused(client: httpx.AsyncClient, gallery: Gallery) -> None:
    await gallery.manipulated("forged", 26)
    assert (await client.get(f"/pictures/secrets/{gallery.tenant}/forged")).status_code == 422
    assert (await client.get(f"/pictures/upload/{gallery.tenant}/forged?size=9999")).status_code == 422


async def test_an_object_that_is_gone_is_not_found(client: httpx.AsyncClient, gallery: Gallery) -> None:
    verdict = await gallery.no_evidence("gone", 27)
    missing = StoredImage(object_key="images/gone", sha256="0" * 64, size_bytes=1, width=9, height=9, format="PNG")
    await gallery.show(verdict.model_copy(update={"revision": 1, "image": missing}))
    answer = await client.get(f"/pictures/upload/{gallery.tenant}/gone")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:pentimento:problem:object_missing"
