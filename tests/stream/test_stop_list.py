"""Spam among the originals: blank pages, one meme with many insides, a logo. What is true is found, little is verified.

The real database, store and pool, and the pictures are registered as the stream does it.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.clients.candidates import Candidates, Geometries, Picture
from services.clients.database import Database
from services.clients.late import LateQueue, Uploads
from services.clients.objects import Objects
from services.clients.stoplist import StopList
from services.core.intake.examine import Limits, examine
from services.local.postgres import Postgres
from services.opening import stop_rules
from services.settings import Settings, TelemetrySettings
from services.stream.guard import Known
from services.stream.lookup import STOP_LISTED, Lookup
from services.stream.pool import DecodePool
from services.stream.registry import Registry
from services.telemetry import open_telemetry
from tests.chaos.world import picture
from tests.clients.conftest import dsn_of
from tests.stream.test_lookup import NOON, SAMPLES, known

SPAM = 200
SIDE = 300  # pixels
SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def blank(number: int) -> Image.Image:
    """Paper of some shade, with the grain of a scan."""
    random = np.random.default_rng(number)
    grain = random.normal(random.uniform(200, 250), 2, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def meme(number: int) -> Image.Image:
    """The same frame with captions, each time around another picture."""
    image = Image.new("RGB", (SIDE, SIDE), "black")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE, 90), fill="white")
    for letter in range(9):
        draw.rectangle((12 + 32 * letter, 25, 32 + 32 * letter, 70), fill="black")
    draw.rectangle((0, 230, SIDE, SIDE), fill="white")
    draw.rectangle((40, 245, 260, 270), fill="red")
    image.paste(picture(5000 + number, size=(84, 60)), (108, 130))
    return image


def logo(number: int) -> Image.Image:
    """A sign on white paper, as it is on every letter, never in quite the same place."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    image.paste(picture(4999, size=(180, 180)), (60 + number % 7, 60 + number % 5))
    return image


@dataclass(frozen=True)
class Library:
    """A registry and a lookup over one database that holds all of the spam."""

    database: Database
    objects: Objects
    registry: Registry
    lookup: Lookup

    async def register(self, name: str, data: bytes, *, trusted: bool = True) -> Picture:
        arrived = known(data)
        await self.objects.put(arrived.image.object_key, data, "image/jpeg")
        entry = Picture("acme", name, arrived.image, arrived.fingerprint, trusted, "library", NOON)
        await (self.registry.original(entry) if trusted else self.registry.upload(entry))
        return entry

    async def verified(self, upload: Known) -> int:
        """How many pictures were ever compared with it."""
        async with self.database.connection() as connection:
            query = "select count(*) as pairs from geometry where upload_sha256 = %s"
            row = await (await connection.execute(query, [upload.image.sha256])).fetchone()
        return int(row["pairs"]) if row else 0


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=1, timeout_s=60)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
async def library(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, pool: DecodePool
) -> AsyncIterator[Library]:
    database = await Database.open(dsn_of(postgres, f"stop_{uuid4().hex}"), pool_size=2, timeout_s=20)
    await database.migrate()
    objects = Objects(tmp_path_factory.mktemp("spam").as_uri())
    candidates, stops = Candidates(database), StopList(database, stop_rules(SETTINGS.stop_list))
    telemetry = open_telemetry(TelemetrySettings(), "test")
    registry = Registry(
        candidates=candidates, uploads=Uploads(database), stops=stops, queue=LateQueue(database), settings=SETTINGS,
        telemetry=telemetry,
    )  # fmt: skip
    lookup = Lookup(
        objects=objects, candidates=candidates, geometries=Geometries(database), pool=pool, settings=SETTINGS.intake,
        stops=stops,
    )  # fmt: skip
    library = Library(database, objects, registry, lookup)
    for path in sorted((SAMPLES / "originals").glob("*.jpg")):
        await library.register(path.stem, path.read_bytes())
    for number in range(SPAM):
        await library.register(f"blank-{number}", encoded(blank(number)))
        await library.register(f"meme-{number}", encoded(meme(number)))
    await library.register("logo", encoded(logo(0)))
    for number in range(SPAM):
        await library.register(f"letter-{number}", encoded(logo(number), 50 + number % 43), trusted=False)
    yield library
    telemetry.close()
    await database.close()


async def test_the_spam_is_on_the_list_and_the_true_originals_are_not(library: Library) -> None:
    entries = await StopList(library.database, stop_rules(SETTINGS.stop_list)).entries("acme")
    stopped = {(entry.reason, entry.trusted): entry.pictures for entry in entries}
    assert stopped[("flat", None)] == SPAM
    async with library.database.connection() as connection:
        query = (
            "select original_id, trusted from candidate where stopped_by is not null and not original_id like 'blank%'"
        )
        rows = await (await connection.execute(query)).fetchall()
    memes = [row for row in rows if row["original_id"].startswith("meme")]
    letters = [row for row in rows if row["original_id"].startswith("letter")]
    assert len(memes) + len(letters) == len(rows)  # neither a photograph nor the logo that somebody vouches for
    assert len(memes) > SPAM / 2
    assert len(letters) > SPAM / 8  # of those that are not byte for byte the same


async def test_the_original_of_a_forgery_is_found_among_the_spam_and_nothing_else_is_verified(library: Library) -> None:
    upload = known((SAMPLES / "uploads" / "windmill-giraffe.jpg").read_bytes())
    found = await library.lookup.search("acme", upload)
    assert [each.original_id for each in found.candidates] == ["windmill"]
    assert await library.verified(upload) <= SETTINGS.intake.max_candidates


async def test_a_blank_upload_is_compared_with_nothing_and_says_so(library: Library) -> None:
    upload = known(encoded(blank(9999)))
    found = await library.lookup.search("acme", upload)
    assert found.candidates == ()
    assert found.notes == (STOP_LISTED,)
    assert await library.verified(upload) == 0


async def test_the_very_file_of_a_blank_original_is_recognised(library: Library) -> None:
    found = await library.lookup.search("acme", known(encoded(blank(7))))
    assert [each.original_id for each in found.candidates] in ([], ["blank-7"])  # geometry may see nothing on it
    near = await Candidates(library.database).nearest(
        "acme", known(encoded(blank(7))).fingerprint, max_distance=90, limit=5
    )
    assert near == []


@pytest.mark.parametrize("number", [3, 137, 199])
async def test_a_copy_of_one_meme_finds_that_one_first(library: Library, number: int) -> None:
    upload = known(encoded(meme(number), 55))
    found = await library.lookup.search("acme", upload)
    assert found.candidates[0].original_id == f"meme-{number}"
    assert await library.verified(upload) <= SETTINGS.intake.max_candidates


async def test_a_new_inside_in_the_old_frame_is_not_held_against_another_meme(library: Library) -> None:
    upload = known(encoded(meme(777)))
    found = await library.lookup.search("acme", upload)
    assert STOP_LISTED in found.notes
    assert await library.verified(upload) <= SETTINGS.intake.max_candidates


async def test_one_more_letter_finds_the_logo_that_somebody_vouches_for(library: Library) -> None:
    upload = known(encoded(logo(2), 50))
    found = await library.lookup.search("acme", upload)
    assert found.candidates[0].original_id == "logo"
    assert await library.verified(upload) <= SETTINGS.intake.max_candidates


def test_the_spam_is_what_it_says() -> None:
    """A frame's insides differ, and blank pages are flat: else the tests above would show nothing."""
    assert examine(encoded(blank(0)), Limits()).fingerprint.pdq_quality < SETTINGS.stop_list.flat_quality
    assert sha256(encoded(meme(0))).digest() != sha256(encoded(meme(1))).digest()
    assert Path(SAMPLES / "originals" / "windmill.jpg").is_file()
