"""The last stage of lookup on the real database, store and pool: a corner of an original, and an object of it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from services.clients.candidates import Candidates, Geometries, Picture
from services.clients.database import Database
from services.clients.late import LateQueue, Uploads
from services.clients.objects import Objects
from services.clients.preparation import PreparationQueue, Unprepared
from services.clients.stoplist import StopList
from services.clients.words import WordIndex
from services.core.intake.examine import Limits, examine
from services.local.postgres import Postgres
from services.opening import open_vocabulary, stop_rules
from services.settings import Settings, TelemetrySettings, WordSettings
from services.stream.features import PictureFeatures
from services.stream.guard import Known
from services.stream.lookup import Lookup
from services.stream.pool import DecodePool
from services.stream.preparing import Preparing
from services.stream.registry import Registry
from services.stream.words import PictureWords
from services.telemetry import open_telemetry
from tests.clients.conftest import dsn_of

SAMPLES = Path(__file__).parents[2] / "samples"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings()


@dataclass(frozen=True)
class Library:
    """Every original of the samples but the lake, registered as `intake` does."""

    lookup: Lookup
    by_hash_alone: Lookup
    registry: Registry
    index: WordIndex


@pytest.fixture(scope="module")
async def library(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Library]:
    database = await Database.open(dsn_of(postgres, f"words_{uuid4().hex}"), pool_size=2, timeout_s=20)
    await database.migrate()
    objects, pool = Objects(tmp_path_factory.mktemp("words").as_uri()), DecodePool(workers=1, timeout_s=60)
    vocabulary, candidates = open_vocabulary(), Candidates(database)
    index = WordIndex(database, vocabulary.name)
    words = PictureWords(
        index=index,
        unprepared=Unprepared(database),
        vocabulary=vocabulary,
        pool=pool,
        settings=WordSettings(),
        max_pixels=SETTINGS.intake.max_pixels,
    )
    telemetry = open_telemetry(TelemetrySettings(), "test")
    registry = Registry(
        candidates=candidates, uploads=Uploads(database), queue=LateQueue(database), settings=SETTINGS,
        stops=StopList(database, stop_rules(SETTINGS.stop_list)), telemetry=telemetry,
    )  # fmt: skip
    lookup, by_hash_alone = (
        Lookup(
            objects=objects, candidates=candidates, geometries=Geometries(database), pool=pool,
            settings=SETTINGS.intake, words=each,
        )
        for each in (words, None)
    )  # fmt: skip
    made = Library(lookup, by_hash_alone, registry, index)
    for path in sorted((SAMPLES / "originals").glob("*.jpg")):
        if path.stem != "lake":
            it = known(Image.open(path))
            await objects.put(it.image.object_key, it.data, "image/jpeg")
            await register(made, path.stem, it)
    preparing = Preparing(
        queue=PreparationQueue(database), candidates=candidates, objects=objects, words=words, telemetry=telemetry,
        features=PictureFeatures(objects=objects, pool=pool, settings=SETTINGS.intake), settings=SETTINGS.intake,
        now=lambda: NOON,
    )  # fmt: skip
    while job := await preparing.claim():
        await preparing.one(job)
    yield made
    telemetry.close()
    pool.close()
    await database.close()


async def register(library: Library, name: str, it: Known, *, trusted: bool = True) -> None:
    entry = Picture("acme", name, it.image, it.fingerprint, trusted, "library", NOON)
    await (library.registry.original(entry) if trusted else library.registry.upload(entry))


def known(image: Image.Image) -> Known:
    """A picture as the guard passes it on."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=88)
    data = buffer.getvalue()
    examined = examine(data, Limits())
    return Known(data, examined.stored(data, sha256(data).hexdigest()), examined.fingerprint)


def corner() -> Image.Image:
    """The middle quarter of the windmill's picture, turned by 25 degrees: nothing that PDQ or a grid of parts finds."""
    whole = Image.open(SAMPLES / "originals" / "windmill.jpg")
    width, height = whole.size
    return whole.rotate(25, Image.Resampling.BICUBIC).crop((width // 4, height // 4, 3 * width // 4, 3 * height // 4))


async def test_a_small_turned_part_of_an_original_is_found_and_confirmed(library: Library) -> None:
    upload = known(corner())
    assert await library.by_hash_alone.find("acme", upload) == ()
    (found,) = await library.lookup.find("acme", upload)
    assert found.original_id == "windmill"
    assert found.overlap > 0.9
    assert found.distance > SETTINGS.intake.max_distance


async def test_an_objects_donor_is_found_beside_nothing_else(library: Library) -> None:
    """The windmill's middle on the picture of a lake, which is not registered."""
    ground = Image.open(SAMPLES / "originals" / "lake.jpg").convert("RGB")
    thing = corner()
    thing.thumbnail((ground.width // 2, ground.height // 2))
    ground.paste(thing, (ground.width // 4, ground.height // 3))
    (found,) = await library.lookup.find("acme", known(ground))
    assert found.original_id == "windmill"


async def test_what_pdq_finds_is_found_as_before(library: Library) -> None:
    upload = known(Image.open(SAMPLES / "uploads" / "windmill-giraffe.jpg"))
    assert await library.lookup.find("acme", upload) == await library.by_hash_alone.find("acme", upload) != ()


async def test_a_stranger_and_another_tenants_upload_find_nothing(library: Library) -> None:
    assert await library.lookup.find("acme", known(Image.open(SAMPLES / "originals" / "lake.jpg"))) == ()
    assert await library.lookup.find("other", known(corner())) == ()


async def test_earlier_uploads_get_no_words(library: Library) -> None:
    lake = known(Image.open(SAMPLES / "originals" / "lake.jpg"))
    await register(library, "upload", lake, trusted=False)
    assert (await library.index.missing(None, limit=9)) == []
    assert await library.lookup.find("acme", known(Image.open(SAMPLES / "originals" / "lake.jpg").rotate(9))) == ()
