"""The second stage of lookup on the real database, store and pool: parts are found that PDQ does not find."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from services.clients.candidates import Candidates, Geometries, Neighbour, Picture
from services.clients.database import Database
from services.clients.embedders import Effort, Embedders
from services.clients.embeddings import Embeddings
from services.clients.late import LateQueue, Uploads
from services.clients.objects import Objects
from services.clients.stoplist import StopList
from services.core.errors import Unavailable
from services.core.intake.examine import Limits, examine
from services.core.intake.regions import STORED
from services.local.postgres import Postgres
from services.opening import stop_rules
from services.settings import EmbedderSettings, Settings, TelemetrySettings
from services.stream.guard import Known
from services.stream.lookup import EMBEDDINGS_INCOMPLETE, NOT_EMBEDDED, Lookup, _dealt
from services.stream.pool import DecodePool
from services.stream.registry import Registry
from services.stream.vectors import PictureVectors
from services.telemetry import open_telemetry
from tests.clients.conftest import dsn_of
from tests.clients.examples import picture
from tests.clients.tiny_embedder import TinyEmbedder

SAMPLES = Path(__file__).parents[2] / "samples"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings()
ENABLED = EmbedderSettings(enabled=True, min_similarity=0.9)


def known(data: bytes) -> Known:
    """An upload as the guard passes it on."""
    examined = examine(data, Limits())
    return Known(data, examined.stored(data, sha256(data).hexdigest()), examined.fingerprint)


def part_of(name: str, quarter: int = 3) -> Known:
    """The lower right 60 % of an original: too little of it for PDQ, and just one of its regions."""
    whole = Image.open(SAMPLES / "originals" / name).convert("RGB")
    width, height = whole.size
    left, top = (0.4 if quarter % 2 else 0.0), (0.4 if quarter // 2 else 0.0)
    box = (round(left * width), round(top * height), round((left + 0.6) * width), round((top + 0.6) * height))
    buffer = io.BytesIO()
    whole.crop(box).save(buffer, "JPEG", quality=90)
    return known(buffer.getvalue())


class Stage:
    """Registration and lookup as `intake` wires them, with a tiny embedder."""

    def __init__(self, database: Database, objects: Objects, pool: DecodePool, settings: EmbedderSettings) -> None:
        self.database, self.objects = database, objects
        self.embedder = TinyEmbedder()
        self.embedders = Embedders(database)
        vectors = PictureVectors(
            embedder=self.embedder, embedders=self.embedders, embeddings=Embeddings(database), settings=settings
        )
        candidates = Candidates(database)
        self.telemetry = open_telemetry(TelemetrySettings(), "test")
        self.registry = Registry(
            candidates=candidates, uploads=Uploads(database), queue=LateQueue(database), settings=SETTINGS,
            stops=StopList(database, stop_rules(SETTINGS.stop_list)), telemetry=self.telemetry, vectors=vectors,
        )  # fmt: skip
        self.lookup, self.by_hash_alone = (
            Lookup(
                objects=objects, candidates=candidates, geometries=Geometries(database), pool=pool,
                settings=SETTINGS.intake, vectors=each,
            )
            for each in (vectors, None)
        )  # fmt: skip

    async def register(self, name: str, it: Known, *, trusted: bool = True) -> Known:
        await self.objects.put(it.image.object_key, it.data, "image/jpeg")
        entry = Picture("acme", name, it.image, it.fingerprint, trusted, "library" if trusted else "upload", NOON)
        await (self.registry.original(entry) if trusted else self.registry.upload(entry))
        return await self.registry.embedded(entry, it)


@pytest.fixture(scope="module")
async def library(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Database, Objects, DecodePool]]:
    """Every original of the samples, registered, and their embedder active."""
    database = await Database.open(dsn_of(postgres, f"vectors_{uuid4().hex}"), pool_size=2, timeout_s=20)
    await database.migrate()
    objects, pool = Objects(tmp_path_factory.mktemp("vectors").as_uri()), DecodePool(workers=1, timeout_s=60)
    stage = Stage(database, objects, pool, ENABLED)
    for path in sorted((SAMPLES / "originals").glob("*.jpg")):
        await stage.register(path.stem, known(path.read_bytes()))
    await stage.embedders.activate("tiny-1", Effort(64, 0))
    stage.telemetry.close()
    yield database, objects, pool
    pool.close()
    await database.close()


@pytest.fixture
def stage(library: tuple[Database, Objects, DecodePool]) -> Iterator[Stage]:
    """With an embedder that a test may take away."""
    made = Stage(*library, ENABLED)
    yield made
    made.telemetry.close()


async def test_an_upload_that_is_a_part_of_an_original_is_found_by_its_vectors_and_not_by_pdq(stage: Stage) -> None:
    upload = part_of("windmill.jpg")
    assert await stage.by_hash_alone.find("acme", upload) == ()
    found = await stage.lookup.search("acme", upload)
    (candidate,) = found.candidates
    assert candidate.original_id == "windmill"
    assert candidate.distance > SETTINGS.intake.max_distance
    assert (found.notes, found.embedder) == ((), "tiny-1")
    assert (await stage.lookup.search("acme", upload)) == found


async def test_what_pdq_finds_is_found_as_before_and_once(stage: Stage) -> None:
    upload = known((SAMPLES / "uploads" / "windmill-giraffe.jpg").read_bytes())
    assert await stage.lookup.find("acme", upload) == await stage.by_hash_alone.find("acme", upload) != ()


async def test_another_tenants_parts_are_not_found(stage: Stage) -> None:
    assert await stage.lookup.find("other", part_of("windmill.jpg")) == ()


async def test_while_the_embedder_is_away_nothing_is_looked_up_and_originals_are_found_by_pdq(stage: Stage) -> None:
    stage.embedder.away = True
    with pytest.raises(Unavailable):
        await stage.lookup.search("acme", part_of("windmill.jpg"))
    late = part_of("windmill.jpg", 0)
    with pytest.raises(Unavailable):
        await stage.register("late", late)
    (found,) = await stage.by_hash_alone.find("acme", late)
    assert found.original_id == "late"


async def test_an_upload_is_embedded_once_for_registration_and_search(stage: Stage) -> None:
    before = stage.embedder.asked
    upload = await stage.register("upload", part_of("windmill.jpg"), trusted=False)
    await stage.lookup.search("acme", upload)
    assert stage.embedder.asked == before + 1


async def test_notes_say_what_could_not_be_sought(stage: Stage) -> None:
    upload = part_of("windmill.jpg")
    stage.embedder.refused.add(upload.data)
    assert (await stage.lookup.search("acme", upload)).notes == (NOT_EMBEDDED,)
    stage.embedder.refused.clear()
    stage.embedder.name = "tiny-2"  # of which no original has vectors yet
    found = await stage.lookup.search("acme", upload)
    assert (found.candidates, found.notes) == ((), (EMBEDDINGS_INCOMPLETE,))


async def test_vectors_of_uploads_are_kept_only_where_the_settings_say_so(stage: Stage) -> None:
    (before,) = await stage.embedders.state()
    await stage.register("upload", part_of("windmill.jpg"), trusted=False)
    assert [each.vectors for each in await stage.embedders.state()] == [before.vectors]
    vectors = PictureVectors(
        embedder=stage.embedder, embedders=stage.embedders, embeddings=Embeddings(stage.database),
        settings=EmbedderSettings(enabled=True, register_uploads=True),
    )  # fmt: skip
    again = part_of("windmill.jpg")
    entry = Picture("acme", "upload", again.image, again.fingerprint, False, "upload", NOON)
    await vectors.keep(entry, await vectors.of(again.data))
    assert [each.vectors for each in await stage.embedders.state()] == [before.vectors + STORED]


def near(*names: str, trusted: bool = True) -> list[Neighbour]:
    return [Neighbour(replace(picture(name, trusted=trusted)), 10) for name in names]


@pytest.mark.parametrize(
    ("by_hash", "by_parts", "places", "expected"),
    [
        ("abcdef", "", 2, "abcde"),  # nothing is kept free for nothing
        ("abcdef", "xyz", 2, "abcxy"),
        ("abcdef", "x", 2, "abcdx"),
        ("ab", "vwxyz", 2, "abvwx"),  # what PDQ leaves over is given on
        ("", "uvwxyz", 2, "uvwxy"),
        ("abcdef", "uvwxyz", 50, "auvwx"),  # one place is PDQ's
        ("abcdef", "xyz", 0, "abcde"),
    ],
)
def test_places_are_dealt_to_pdq_first_with_some_kept_for_vectors(
    by_hash: str, by_parts: str, places: int, expected: str
) -> None:
    dealt = _dealt(near(*by_hash), near(*by_parts), 5, places)
    assert "".join(each.picture.original_id.removeprefix("id-") for each in dealt) == expected


def test_earlier_uploads_make_room_for_originals_among_what_vectors_find() -> None:
    by_parts = near("a", "b", trusted=False) + near("original")
    dealt = _dealt([], by_parts, 2, 2)
    assert [each.picture.original_id for each in dealt] == ["id-a", "id-original"]
