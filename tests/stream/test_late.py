"""Late originals between the queue and judge, on the real database, store and pool: who is sent, who stays, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.candidates import Candidates, Geometries, Picture
from services.clients.database import Database
from services.clients.late import LateJob, LateQueue, Uploads
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.stoplist import StopList
from services.core.events import Candidate, Decision, Event, ImageIntaken
from services.core.events import Path as VerdictPath
from services.core.policy import DEFAULT_POLICY
from services.local.postgres import Postgres
from services.opening import stop_rules
from services.settings import Settings, TelemetrySettings
from services.stream.backlog import GIVE_UP_S, Way
from services.stream.guard import Known
from services.stream.late import Late
from services.stream.lookup import Lookup
from services.stream.pool import DecodePool
from services.stream.registry import Registry
from services.telemetry import Telemetry, open_telemetry
from tests.chaos.world import jpeg, picture
from tests.clients.conftest import dsn_of
from tests.clients.examples import verdict
from tests.stream.test_lookup import NOON, known

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
MAX_BYTES = SETTINGS.intake.max_bytes
ORIGINAL = picture(7100)


@dataclass
class Stream:
    """A registry, and the shell of late originals; what it delivers is kept in `sent`."""

    database: Database
    objects: Objects
    pool: DecodePool
    telemetry: Telemetry
    folder: Path
    now: datetime = NOON
    sent: list[Event] = field(default_factory=list)

    @property
    def registry(self) -> Registry:
        return Registry(
            candidates=Candidates(self.database),
            uploads=Uploads(self.database),
            stops=StopList(self.database, stop_rules(SETTINGS.stop_list)),
            queue=LateQueue(self.database),
            settings=SETTINGS,
            telemetry=self.telemetry,
        )

    @property
    def way(self) -> Way:
        async def deliver(event: Event) -> None:
            self.sent.append(event)

        candidates = Candidates(self.database)
        geometries = Geometries(self.database)
        lookup = Lookup(
            objects=self.objects, candidates=candidates, geometries=geometries, pool=self.pool, settings=SETTINGS.intake
        )
        return Way(
            candidates=candidates,
            ledger=Ledger(self.database),
            fetch=lambda key: self.objects.get(key, MAX_BYTES),
            lookup=lookup,
            deliver=deliver,
            telemetry=self.telemetry,
            now=lambda: self.now,
        )

    @property
    def late(self) -> Late:
        return Late(self.way, queue=LateQueue(self.database), policy=DEFAULT_POLICY, settings=SETTINGS.late)

    async def arrived(self, name: str, data: bytes, *, trusted: bool = False) -> Known:
        """A picture as intake registers it."""
        it = known(data)
        await self.objects.put(it.image.object_key, data, "image/jpeg")
        entry = Picture("acme", name, it.image, it.fingerprint, trusted, "library" if trusted else "upload", NOON)
        await (self.registry.original(entry) if trusted else self.registry.upload(entry))
        return it

    async def judged(self, upload_id: str, it: Known, *, against: Known | None = None, **facts: object) -> None:
        """Its first verdict: alone, or compared with another upload, for which nobody vouches."""
        made = verdict(upload_id, against=None if against is None else "x", path=VerdictPath.UNCONSTRAINED)
        changes: dict[str, object] = {"image": it.image, **facts}
        if against is not None and made.candidate is not None:
            changes["candidate"] = Candidate.model_validate(
                made.candidate.model_dump() | {"sha256": against.image.sha256, "trusted": False}
            )
        await Ledger(self.database).claim(made.model_copy(update=changes))

    async def work(self) -> list[LateJob]:
        """Every job that is due, done."""
        jobs = []
        while job := await LateQueue(self.database).claim(pause_s=0, lease_s=1000):
            await self.late.one(job)
            jobs.append(job)
        return jobs

    async def states(self) -> dict[str, tuple[str, str | None]]:
        async with self.database.connection() as connection:
            rows = await (await connection.execute("select upload_id, state, reason from late")).fetchall()
        return {row["upload_id"]: (row["state"], row["reason"]) for row in rows}


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=1, timeout_s=120)
    yield pool
    pool.close()


@pytest.fixture
async def stream(postgres: Postgres, pool: DecodePool, tmp_path: Path) -> AsyncIterator[Stream]:
    database = await Database.open(dsn_of(postgres, f"late_{uuid4().hex}"), pool_size=2, timeout_s=30)
    await database.migrate()
    telemetry = open_telemetry(TelemetrySettings(), "test")
    yield Stream(database, Objects(tmp_path.as_uri()), pool, telemetry, tmp_path)
    telemetry.close()
    await database.close()


def copy(quality: int) -> bytes:
    return jpeg(ORIGINAL, quality)


async def test_every_upload_of_a_matching_content_is_sent_to_judge_once_with_its_new_candidates(stream: Stream) -> None:
    first = await stream.arrived("u-1", copy(60))
    await stream.arrived("u-2", copy(60))
    own = await stream.arrived("u-3", copy(95))  # the very bytes that somebody will vouch for
    await stream.judged("u-1", first, against=own)
    await stream.judged("u-2", first)
    await stream.judged("u-3", own)
    for name in ("o", "o", "o-under-another-name"):
        await stream.arrived(name, copy(95), trusted=True)
        await stream.work()
    assert await stream.states() == {f"u-{number}": ("sent", None) for number in (1, 2, 3)}
    intakes = {each.upload_id: each for each in stream.sent if isinstance(each, ImageIntaken)}
    assert len(stream.sent) == len(intakes) == 3
    for each in intakes.values():
        assert (each.candidates[0].original_id, each.candidates[0].trusted) == ("o", True)
        assert each.late_original is not None
        assert each.late_original.sha256 == own.image.sha256
        plain = each.model_copy(update={"late_original": None})
        assert each.event_id() != plain.event_id()  # it is another event than the upload's first
        assert each.key() == plain.key()  # on the same partition, behind it


async def test_who_stays_as_it_is_has_a_reason(stream: Stream) -> None:
    gone, refused = await stream.arrived("u-gone", copy(60)), await stream.arrived("u-refused", copy(61))
    await stream.judged("u-gone", gone)
    await stream.judged("u-refused", refused, image=None, path=VerdictPath.REJECTED, decision=Decision.REJECTED)
    (stream.folder / gone.image.object_key).unlink()
    reviewed = await stream.arrived("u-reviewed", copy(62))
    await stream.judged("u-reviewed", reviewed, path=VerdictPath.REVIEWED)
    await stream.arrived("o", copy(95), trusted=True)
    await stream.work()
    assert await stream.states() == {
        "u-gone": ("skipped", "object_missing"),
        "u-refused": ("skipped", "rejected"),
        "u-reviewed": ("skipped", "reviewed"),
    }
    assert stream.sent == []


async def test_an_upload_whose_first_verdict_is_on_its_way_waits_for_it(stream: Stream) -> None:
    it = await stream.arrived("u-1", copy(60))
    await stream.arrived("o", copy(95), trusted=True)
    (job,) = await stream.work()
    assert await stream.states() == {"u-1": ("queued", None)}
    assert stream.sent == []
    await stream.judged("u-1", it)
    await stream.late.one(job)
    assert await stream.states() == {"u-1": ("sent", None)}


async def test_an_upload_that_never_gets_a_verdict_is_given_up_after_a_day_with_the_reason(stream: Stream) -> None:
    await stream.arrived("u-1", copy(60))
    await stream.arrived("o", copy(95), trusted=True)
    stream.now = datetime.now(UTC) + timedelta(seconds=GIVE_UP_S + 60)
    await stream.work()
    assert await stream.states() == {"u-1": ("skipped", "no_verdict")}
