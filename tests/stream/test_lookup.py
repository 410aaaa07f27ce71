"""Lookup on the real database, store and pool: what an upload was made from is found whichever way round it is."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from services.clients.candidates import Candidates, Geometries, Picture
from services.clients.database import Database
from services.clients.objects import Objects
from services.core.intake.examine import Limits, examine
from services.local.postgres import Postgres
from services.settings import IntakeSettings
from services.stream.guard import Known
from services.stream.lookup import Lookup
from services.stream.pool import DecodePool
from tests.clients.conftest import dsn_of

SAMPLES = Path(__file__).parents[2] / "samples"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def known(data: bytes) -> Known:
    """An upload as the guard passes it on."""
    examined = examine(data, Limits())
    image = examined.stored(data, sha256(data).hexdigest())
    return Known(data, image, examined.fingerprint)


@pytest.fixture
async def parts(postgres: Postgres, tmp_path: Path) -> AsyncIterator[tuple[Database, Objects, DecodePool]]:
    """A database and a store with every original of the samples registered, and a pool."""
    database = await Database.open(dsn_of(postgres, f"lookup_{uuid4().hex}"), pool_size=2, timeout_s=20)
    await database.migrate()
    objects = Objects(tmp_path.as_uri())
    pool = DecodePool(workers=1, timeout_s=60)
    for path in sorted((SAMPLES / "originals").glob("*.jpg")):
        original = known(path.read_bytes())
        await objects.put(original.image.object_key, original.data, "image/jpeg")
        picture = Picture("acme", path.stem, original.image, original.fingerprint, True, "library", NOON)
        await Candidates(database).register(picture)
    yield database, objects, pool
    pool.close()
    await database.close()


def lookup(parts: tuple[Database, Objects, DecodePool], settings: IntakeSettings) -> Lookup:
    database, objects, pool = parts
    return Lookup(
        objects=objects,
        candidates=Candidates(database),
        geometries=Geometries(database),
        pool=pool,
        settings=settings,
    )


def forged(quarters: int, *, mirrored: bool) -> Known:
    """The windmill with a giraffe pasted in, turned round."""
    rgb = np.asarray(Image.open(SAMPLES / "uploads" / "windmill-giraffe.jpg").convert("RGB"))
    buffer = io.BytesIO()
    turned = np.rot90(rgb[:, ::-1] if mirrored else rgb, quarters)
    Image.fromarray(np.ascontiguousarray(turned)).save(buffer, "JPEG", quality=85)
    return known(buffer.getvalue())


async def test_lookup_finds_the_original_of_an_upload_that_was_turned_or_mirrored(
    parts: tuple[Database, Objects, DecodePool],
) -> None:
    everywhere = lookup(parts, IntakeSettings(orientations=8))
    for quarters, mirrored in ((0, False), (1, False), (2, False), (3, False), (0, True), (1, True)):
        upload = forged(quarters, mirrored=mirrored)
        (found,) = await everywhere.find("acme", upload)
        assert found.original_id == "windmill"
        assert found.homography is not None
        assert (np.linalg.det(np.reshape(found.homography, (3, 3))[:2, :2]) < 0) == mirrored
        assert (await everywhere.find("acme", upload)) == (found,)  # from the cache, the map is the same


async def test_lookup_seeks_no_more_orientations_than_it_is_told_to(
    parts: tuple[Database, Objects, DecodePool],
) -> None:
    mirrored, turned = forged(0, mirrored=True), forged(1, mirrored=False)
    assert await lookup(parts, IntakeSettings(orientations=1)).find("acme", mirrored) == ()
    (found,) = await lookup(parts, IntakeSettings()).find("acme", mirrored)
    assert found.original_id == "windmill"
    assert await lookup(parts, IntakeSettings()).find("acme", turned) == ()
