"""Originals that come after uploads which hold a part of them, on the real database, store and decoding processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from services.clients.candidates import Candidates, Geometries, Picture
from services.clients.database import Database
from services.clients.late import LateQueue, Uploads
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.preparation import PreparationQueue, Unprepared
from services.clients.stoplist import StopList
from services.clients.upload_words import UploadWords
from services.clients.words import WordIndex
from services.core.events import Event, ImageIntaken
from services.core.events import Path as VerdictPath
from services.core.intake.words import words_of
from services.core.policy import DEFAULT_POLICY
from services.erasing import erase
from services.local.postgres import Postgres
from services.opening import open_vocabulary, stop_rules
from services.settings import Settings, TelemetrySettings
from services.stream.backlog import Way
from services.stream.earlier import EarlierUploads
from services.stream.features import PictureFeatures
from services.stream.guard import Known
from services.stream.late import Late
from services.stream.lookup import Lookup
from services.stream.pool import DecodePool
from services.stream.preparing import Preparing
from services.stream.registry import Registry
from services.stream.words import PictureWords
from services.telemetry import Telemetry, open_telemetry
from tests.clients.conftest import dsn_of
from tests.clients.examples import verdict
from tests.stream.test_words import NOON, SAMPLES, corner, known

SETTINGS = Settings()
VOCABULARY = open_vocabulary()


@dataclass
class Stream:
    """What an `intake` process has, but for the stream itself; what it delivers is kept in `sent`."""

    database: Database
    objects: Objects
    pool: DecodePool
    telemetry: Telemetry
    register_uploads: bool = True
    sent: list[Event] = field(default_factory=list)

    @property
    def index(self) -> WordIndex:
        return WordIndex(self.database, VOCABULARY.name)

    @property
    def words(self) -> PictureWords:
        earlier = EarlierUploads(
            words=UploadWords(self.database, VOCABULARY.name), queue=LateQueue(self.database),
            settings=SETTINGS.late, telemetry=self.telemetry,
        )  # fmt: skip
        return PictureWords(
            index=self.index, unprepared=Unprepared(self.database), vocabulary=VOCABULARY, pool=self.pool,
            settings=SETTINGS.words, max_pixels=SETTINGS.intake.max_pixels,
            uploads=earlier if self.register_uploads else None,
        )  # fmt: skip

    @property
    def lookup(self) -> Lookup:
        return Lookup(
            objects=self.objects, candidates=Candidates(self.database), geometries=Geometries(self.database),
            pool=self.pool, settings=SETTINGS.intake, words=self.words,
        )  # fmt: skip

    @property
    def registry(self) -> Registry:
        return Registry(
            candidates=Candidates(self.database), uploads=Uploads(self.database), queue=LateQueue(self.database),
            stops=StopList(self.database, stop_rules(SETTINGS.stop_list)), settings=SETTINGS, telemetry=self.telemetry,
        )  # fmt: skip

    @property
    def preparing(self) -> Preparing:
        return Preparing(
            queue=PreparationQueue(self.database), candidates=Candidates(self.database), objects=self.objects,
            features=PictureFeatures(objects=self.objects, pool=self.pool, settings=SETTINGS.intake),
            words=self.words, telemetry=self.telemetry, settings=SETTINGS.intake, now=lambda: NOON,
        )  # fmt: skip

    @property
    def late(self) -> Late:
        async def deliver(event: Event) -> None:
            self.sent.append(event)

        way = Way(
            candidates=Candidates(self.database), ledger=Ledger(self.database), lookup=self.lookup, deliver=deliver,
            fetch=lambda key: self.objects.get(key, SETTINGS.intake.max_bytes), telemetry=self.telemetry,
            now=lambda: datetime.now(UTC),
        )  # fmt: skip
        return Late(way, queue=LateQueue(self.database), policy=DEFAULT_POLICY, settings=SETTINGS.late)

    async def upload(self, name: str, image: Image.Image, *, tenant: str = "acme") -> Known:
        """An upload as `intake` looks at it, and its first verdict."""
        it = await self._stored(image)
        await self.registry.upload(Picture(tenant, name, it.image, it.fingerprint, False, "upload", NOON))
        await self.lookup.search(tenant, it)
        first = verdict(name, tenant=tenant, against=None, path=VerdictPath.UNCONSTRAINED)
        await Ledger(self.database).claim(first.model_copy(update={"image": it.image}))
        return it

    async def original(self, name: str, image: Image.Image, *, tenant: str = "acme") -> Picture:
        """An original, registered and prepared."""
        it = await self._stored(image)
        original = Picture(tenant, name, it.image, it.fingerprint, True, "library", NOON)
        await self.registry.original(original)
        while job := await self.preparing.claim():
            await self.preparing.one(job)
        return original

    async def work(self) -> None:
        """Every late original that is due."""
        while job := await LateQueue(self.database).claim(pause_s=0, lease_s=1000):
            await self.late.one(job)

    async def states(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        """What became of uploads: (upload, original) to state and reason."""
        async with self.database.connection() as connection:
            rows = await (await connection.execute("select * from late")).fetchall()
        return {(row["upload_id"], row["original_id"]): (row["state"], row["reason"]) for row in rows}

    async def worded(self) -> list[bool]:
        """Of each picture that has words whether it is trusted."""
        async with self.database.connection() as connection:
            rows = await (
                await connection.execute("select trusted from worded join candidate using (seq) order by seq")
            ).fetchall()
        return [row["trusted"] for row in rows]

    async def postings(self) -> int:
        async with self.database.connection() as connection:
            row = await (await connection.execute("select count(*) as postings from visual_word")).fetchone()
        return int(row["postings"]) if row else 0

    async def _stored(self, image: Image.Image) -> Known:
        it = known(image)
        await self.objects.put(it.image.object_key, it.data, "image/jpeg")
        return it


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=1, timeout_s=120)
    yield pool
    pool.close()


@pytest.fixture
async def stream(postgres: Postgres, pool: DecodePool, tmp_path: Path) -> AsyncIterator[Stream]:
    database = await Database.open(dsn_of(postgres, f"earlier_{uuid4().hex}"), pool_size=2, timeout_s=30)
    await database.migrate()
    telemetry = open_telemetry(TelemetrySettings(), "test")
    yield Stream(database, Objects(tmp_path.as_uri()), pool, telemetry)
    telemetry.close()
    await database.close()


def sample(name: str) -> Image.Image:
    return Image.open(SAMPLES / "originals" / f"{name}.jpg").convert("RGB")


def with_corner(name: str) -> Image.Image:
    """A corner of the windmill's picture, pasted into another sample."""
    ground, thing = sample(name), corner()
    thing.thumbnail((ground.width // 2, ground.height // 2))
    ground.paste(thing, (ground.width // 4, ground.height // 3))
    return ground


async def test_uploads_that_hold_a_part_of_an_original_which_comes_later_are_sent_to_judge_with_it_once(
    stream: Stream,
) -> None:
    await stream.upload("u-corner", corner())
    await stream.upload("u-object", with_corner("lake"))
    await stream.upload("u-stranger", sample("pier"))
    await stream.original("windmill", sample("windmill"))
    expected = {("u-corner", "windmill"), ("u-object", "windmill")}
    assert await stream.states() == dict.fromkeys(expected, ("queued", None))
    await stream.work()
    assert await stream.states() == dict.fromkeys(expected, ("sent", None))
    intakes = {each.upload_id: each for each in stream.sent if isinstance(each, ImageIntaken)}
    assert len(stream.sent) == len(intakes) == 2
    for each in intakes.values():
        assert (each.candidates[0].original_id, each.candidates[0].trusted) == ("windmill", True)
        assert each.candidates[0].distance > SETTINGS.intake.max_distance
        assert each.late_original is not None and each.late_original.original_id == "windmill"

    for name in ("windmill", "windmill-under-another-name"):
        await stream.original(name, sample("windmill"))
    await stream.work()
    assert await stream.states() == dict.fromkeys(expected, ("sent", None))
    assert len(stream.sent) == 2


async def test_where_the_setting_is_off_nothing_of_uploads_is_kept_and_none_is_queued(stream: Stream) -> None:
    stream.register_uploads = False
    await stream.original("pier", sample("pier"))
    await stream.upload("u-corner", corner())
    assert await stream.worded() == [True]
    await stream.original("windmill", sample("windmill"))
    assert await stream.worded() == [True, True]
    assert await stream.states() == {}


async def test_an_upload_that_an_original_covers_is_not_kept(stream: Stream) -> None:
    await stream.original("windmill", sample("windmill"))
    await stream.upload("u-1", sample("windmill").resize((400, 300)))
    assert await stream.worded() == [True]


async def test_looking_an_upload_up_again_keeps_nothing_twice(stream: Stream) -> None:
    await stream.upload("u-corner", corner())
    once = await stream.postings()
    assert once > 0
    await stream.upload("u-again", corner())
    assert await stream.postings() == once
    await stream.original("windmill", sample("windmill"))
    both = await stream.postings()
    await stream.work()
    assert set(await stream.states()) == {("u-corner", "windmill"), ("u-again", "windmill")}
    assert await stream.postings() == both


async def test_what_dies_between_an_originals_words_and_its_uploads_is_made_up_for(stream: Stream) -> None:
    await stream.upload("u-corner", corner())
    it = known(sample("windmill"))
    original = Picture("acme", "windmill", it.image, it.fingerprint, True, "library", NOON)
    await Candidates(stream.database).register(original)
    await stream.index.add(original, words_of(it.data, VOCABULARY))  # what a worker did that died then
    assert await stream.states() == {}
    await stream.original("windmill", sample("windmill"))
    assert await stream.states() == {("u-corner", "windmill"): ("queued", None)}


async def test_an_erased_upload_leaves_no_words_and_is_not_queued(stream: Stream) -> None:
    upload = await stream.upload("u-corner", corner())
    assert await stream.postings() > 0
    erased = await erase(stream.database, stream.objects, tenant="acme", sha256=upload.image.sha256, by="test")
    assert (erased.left, await stream.worded(), await stream.postings()) == ((), [], 0)
    await stream.original("windmill", sample("windmill"))
    assert await stream.states() == {}


async def test_an_upload_that_is_looked_at_while_it_is_erased_gets_no_words(stream: Stream) -> None:
    upload = await stream.upload("u-corner", corner())
    await erase(stream.database, stream.objects, tenant="acme", sha256=upload.image.sha256, by="test")
    await stream.lookup.search("acme", upload)
    assert (await stream.worded(), await stream.postings()) == ([], 0)


async def test_another_tenants_original_finds_no_upload(stream: Stream) -> None:
    await stream.upload("u-theirs", corner(), tenant="other")
    await stream.upload("u-stranger", sample("pier"))
    await stream.original("windmill", sample("windmill"))
    assert await stream.states() == {}
    await stream.original("windmill", sample("windmill"), tenant="other")
    assert await stream.states() == {("u-theirs", "windmill"): ("queued", None)}


async def test_uploads_are_never_found_as_originals_by_their_words(stream: Stream) -> None:
    await stream.upload("u-whole", with_corner("lake"))
    assert await stream.lookup.find("acme", known(corner())) == ()
