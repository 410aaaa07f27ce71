"""Originals between registration and being found by their parts, on the real database, store and decoding processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.candidates import METHOD, Candidates, Geometries
from services.clients.database import Database
from services.clients.fetch import Fetcher
from services.clients.late import LateQueue, Uploads
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.preparation import PreparationQueue, Unprepared
from services.clients.stoplist import StopList
from services.clients.words import WordIndex
from services.core.events import ObjectImage, OriginalRegistered
from services.core.intake.keys import features_key
from services.core.policy import DEFAULT_POLICY
from services.erasing import erase
from services.local.postgres import Postgres
from services.opening import open_vocabulary, stop_rules
from services.settings import Settings, TelemetrySettings
from services.stream.beside import TRIES
from services.stream.features import PictureFeatures
from services.stream.guard import Guard, Known
from services.stream.intake import Intake
from services.stream.lookup import WORDS_INCOMPLETE, Lookup
from services.stream.pool import DecodePool
from services.stream.preparing import NICENESS, Preparing
from services.stream.registry import Registry
from services.stream.words import PictureWords
from services.telemetry import Telemetry, open_telemetry
from tests.chaos.world import ENOUGH_S, jpeg, picture, until
from tests.clients.conftest import dsn_of
from tests.stream.test_lookup import known

SETTINGS = Settings()
SIZE = (640, 480)


def original(number: int) -> bytes:
    return jpeg(picture(9100 + number, size=SIZE))


def corner_of(number: int) -> Known:
    """A part of an original that is not found by PDQ, turned a little."""
    whole = picture(9100 + number, size=SIZE)
    return known(jpeg(whole.crop((200, 140, 640, 480)).rotate(12, expand=True)))


@dataclass
class Stream:
    """What an `intake` process has, but for the stream itself."""

    database: Database
    objects: Objects
    pool: DecodePool
    giving_way: DecodePool
    folder: Path
    telemetry: Telemetry

    @property
    def queue(self) -> PreparationQueue:
        return PreparationQueue(self.database)

    @property
    def index(self) -> WordIndex:
        return WordIndex(self.database, open_vocabulary().name)

    @property
    def lookup(self) -> Lookup:
        return Lookup(
            objects=self.objects, candidates=Candidates(self.database), geometries=Geometries(self.database),
            pool=self.pool, settings=SETTINGS.intake, words=self._words(self.pool),
        )  # fmt: skip

    def preparing(
        self,
        *,
        lease_s: float = 1000,
        lanes: int = 1,
        pool: DecodePool | None = None,
        telemetry: Telemetry | None = None,
    ) -> Preparing:
        asked = {"prepare_lease_s": lease_s, "decode_workers": lanes}
        settings, pool = SETTINGS.intake.model_copy(update=asked), pool or self.giving_way
        return Preparing(
            queue=self.queue,
            candidates=Candidates(self.database),
            objects=self.objects,
            features=PictureFeatures(objects=self.objects, pool=pool, settings=settings),
            words=self._words(pool),
            telemetry=telemetry or self.telemetry,
            settings=settings,
            now=lambda: datetime.now(UTC),
        )

    def intake(self, fetcher: Fetcher) -> Intake:
        candidates, queue = Candidates(self.database), LateQueue(self.database)
        stops = StopList(self.database, stop_rules(SETTINGS.stop_list))
        return Intake(
            guard=Guard(
                objects=self.objects, fetcher=fetcher, candidates=candidates, pool=self.pool, settings=SETTINGS.intake
            ),
            lookup=self.lookup,
            candidates=candidates,
            ledger=Ledger(self.database),
            policy=DEFAULT_POLICY,
            registry=Registry(
                candidates=candidates, uploads=Uploads(self.database), stops=stops, queue=queue, settings=SETTINGS,
                telemetry=self.telemetry,
            ),
            telemetry=self.telemetry,
            now=lambda: datetime.now(UTC),
        )  # fmt: skip

    async def register(self, count: int) -> None:
        """Originals 0.. as `intake` registers them, each redelivered once."""
        fetcher = Fetcher(allowed_hosts=(), max_bytes=1, timeout_s=1)
        intake = self.intake(fetcher)
        for number in range(count):
            await self.objects.put(f"incoming/{number}", original(number), "image/jpeg")
            event = OriginalRegistered(
                original_id=f"o-{number}",
                tenant="acme",
                image=ObjectImage(object_key=f"incoming/{number}"),
                registered_at=datetime.now(UTC),
            )
            for _ in range(2):
                assert await intake.original(event) == ()
        await fetcher.close()

    async def waiting(self) -> int:
        return (await self.queue.waiting())[0]

    async def prepared(self, number: int) -> bool:
        """Whether both are there, words and features."""
        lacking = {each.original_id for each in await self.index.missing("acme", limit=1000)}
        return f"o-{number}" not in lacking and await self.objects.exists(self.features_key(number))

    def features_key(self, number: int) -> str:
        return features_key(known(original(number)).image.sha256, METHOD)

    def counted(self, telemetry: Telemetry | None = None) -> dict[str, float]:
        """What became of originals, by outcome."""
        (family,) = (telemetry or self.telemetry).metrics.prepared.collect()
        return {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_total")}

    def _words(self, pool: DecodePool) -> PictureWords:
        return PictureWords(
            index=self.index, unprepared=Unprepared(self.database), vocabulary=open_vocabulary(), pool=pool,
            settings=SETTINGS.words, max_pixels=SETTINGS.intake.max_pixels,
        )  # fmt: skip


@pytest.fixture(scope="module")
def pools() -> Iterator[tuple[DecodePool, DecodePool]]:
    pool, giving_way = (DecodePool(workers=1, timeout_s=120, niceness=niceness) for niceness in (0, NICENESS))
    yield pool, giving_way
    pool.close()
    giving_way.close()


@pytest.fixture
async def stream(postgres: Postgres, pools: tuple[DecodePool, DecodePool], tmp_path: Path) -> AsyncIterator[Stream]:
    database = await Database.open(dsn_of(postgres, f"prepare_{uuid4().hex}"), pool_size=4, timeout_s=30)
    await database.migrate()
    telemetry = open_telemetry(TelemetrySettings(), "test")
    yield Stream(database, Objects((tmp_path / "objects").as_uri()), *pools, tmp_path / "objects", telemetry)
    telemetry.close()
    await database.close()


async def drained(stream: Stream, preparing: Preparing) -> None:
    """Every original that is due, each to its next step."""
    while job := await preparing.claim():
        await preparing.one(job)


async def test_originals_that_nobody_prepared_yet_are_found_whole_and_afterwards_by_their_parts(
    stream: Stream,
) -> None:
    await stream.register(3)
    assert await stream.waiting() == 3
    for number in range(3):
        (found,) = await stream.lookup.find("acme", known(jpeg(picture(9100 + number, size=SIZE), 60)))
        assert found.original_id == f"o-{number}"
    part = await stream.lookup.search("acme", corner_of(1))
    assert (part.candidates, part.notes) == ((), (WORDS_INCOMPLETE,))
    strangers = await stream.lookup.search("other", corner_of(1))
    assert (strangers.candidates, strangers.notes) == ((), ())

    await drained(stream, stream.preparing())
    assert await stream.waiting() == 0
    assert all([await stream.prepared(number) for number in range(3)])
    part = await stream.lookup.search("acme", corner_of(1))
    assert ([each.original_id for each in part.candidates], part.notes) == (["o-1"], ())
    assert stream.counted() == {"prepared": 3}


async def test_an_upload_that_its_original_covers_is_not_sought_by_words_and_not_told_that_some_are_missing(
    stream: Stream,
) -> None:
    await stream.register(1)
    found = await stream.lookup.search("acme", known(jpeg(picture(9100, size=SIZE), 60)))
    assert found.candidates[0].overlap > 0.9
    assert found.notes == ()


async def test_what_a_worker_had_in_work_when_it_died_is_prepared_by_another_when_its_lease_is_over(
    stream: Stream,
) -> None:
    await stream.register(2)
    dead = stream.preparing(lease_s=0)
    job = await dead.claim()
    assert job is not None
    await drained(stream, stream.preparing())
    assert await stream.waiting() == 0
    assert all([await stream.prepared(number) for number in range(2)])
    await dead.one(job)  # it was not dead, only slow: done twice is done once
    assert stream.counted() == {"prepared": 2}
    assert all([await stream.prepared(number) for number in range(2)])


async def test_two_loops_of_two_lanes_share_the_queue_and_each_original_is_prepared_once(stream: Stream) -> None:
    await stream.register(6)
    each = [open_telemetry(TelemetrySettings(), "test") for _ in range(2)]
    loops = [asyncio.create_task(stream.preparing(lanes=2, telemetry=telemetry).run()) for telemetry in each]

    async def none_waits() -> bool:
        return await stream.waiting() == 0

    await until(none_waits)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    assert sum(stream.counted(telemetry)["prepared"] for telemetry in each) == 6
    assert all([await stream.prepared(number) for number in range(6)])
    for telemetry in each:
        telemetry.close()


async def test_what_cannot_be_looked_at_any_more_is_dropped_with_the_reason_and_holds_nobody_up(
    stream: Stream,
) -> None:
    await stream.register(3)
    gone, damaged = (known(original(number)).image.object_key for number in (0, 1))
    (stream.folder / gone).unlink()
    (stream.folder / damaged).write_bytes(b"not a picture any more")
    await drained(stream, stream.preparing())
    assert await stream.waiting() == 0
    assert [await stream.prepared(number) for number in range(3)] == [False, False, True]
    assert stream.counted() == {"object_missing": 1, "unsupported_type": 1, "prepared": 1}
    found = await stream.lookup.search("acme", corner_of(2))
    assert found.notes == ()  # nothing is to be expected any more


async def test_a_decoder_that_dies_has_five_tries(stream: Stream) -> None:
    await stream.register(1)
    slow = DecodePool(workers=1, timeout_s=0.001)
    preparing = stream.preparing(lease_s=0, pool=slow)
    job = await preparing.claim()
    assert job is not None
    await preparing.one(job)
    assert (await stream.waiting(), stream.counted()) == (1, {})
    assert await preparing.claim() is None  # it comes again later
    await preparing.one(replace(job, attempts=TRIES))
    assert (await stream.waiting(), stream.counted()) == (0, {"decoder_crashed": 1})
    slow.close()


async def test_while_the_store_is_away_originals_wait_and_are_then_prepared(stream: Stream) -> None:
    await stream.register(1)
    stream.folder.rename(stream.folder.with_name("elsewhere"))
    preparing = stream.preparing()
    job = await preparing.claim()
    assert job is not None
    await preparing.one(replace(job, attempts=TRIES))
    assert (await stream.waiting(), stream.counted()) == (1, {})
    stream.folder.with_name("elsewhere").rename(stream.folder)
    await preparing.one(job)
    assert (await stream.waiting(), stream.counted()) == (0, {"prepared": 1})


async def test_a_loop_that_is_stopped_in_the_middle_leaves_the_rest_to_the_next_one(stream: Stream) -> None:
    await stream.register(4)
    pool = DecodePool(workers=1, timeout_s=120, niceness=NICENESS)
    loop = asyncio.create_task(stream.preparing(lease_s=0.1, pool=pool).run())

    async with asyncio.timeout(ENOUGH_S):
        while await stream.waiting() == 4:
            await asyncio.sleep(0.01)  # three more take much longer
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
    pool.close()
    left = await stream.waiting()
    assert 0 < left < 4
    next_one = asyncio.create_task(stream.preparing().run())

    async def none_waits() -> bool:
        return await stream.waiting() == 0

    await until(none_waits)
    next_one.cancel()
    await asyncio.gather(next_one, return_exceptions=True)
    assert all([await stream.prepared(number) for number in range(4)])
    assert stream.counted() == {"prepared": 4}


async def test_an_erased_original_leaves_the_queue_and_nothing_behind(stream: Stream) -> None:
    await stream.register(1)
    preparing, image = stream.preparing(), known(original(0)).image
    job = await preparing.claim()
    assert job is not None
    erased = await erase(stream.database, stream.objects, tenant="acme", sha256=image.sha256, by="test")
    assert (erased.left, await stream.waiting()) == ((), 0)
    await stream.objects.put(image.object_key, original(0), "image/jpeg")  # it was read just before
    await preparing.one(job)
    assert not await stream.objects.exists(stream.features_key(0))
    assert await stream.index.missing(None, limit=1) == []
    assert stream.counted() == {}


async def test_what_waits_is_reported_with_its_age(stream: Stream) -> None:
    preparing, metrics = stream.preparing(), stream.telemetry.metrics
    await stream.register(2)
    await preparing.report()
    assert metrics.registry.get_sample_value("pentimento_unprepared_originals") == 2
    assert (metrics.registry.get_sample_value("pentimento_unprepared_oldest_seconds") or 0) > 0
    await drained(stream, preparing)
    await preparing.report()
    assert metrics.registry.get_sample_value("pentimento_unprepared_originals") == 0
    assert metrics.registry.get_sample_value("pentimento_unprepared_oldest_seconds") == 0
