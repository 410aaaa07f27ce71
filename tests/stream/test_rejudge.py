"""Re-judging from the queue to the revision, on the real database, store and models: once, or for a reason not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.late import LateQueue
from services.clients.ledger import Ledger
from services.clients.models import Models, Watch
from services.clients.objects import Objects
from services.clients.rejudge import Choice, RejudgeQueue, RejudgeRuns
from services.core.errors import Unavailable
from services.core.events import Decision, ImageIntaken, ModelVersion, VerdictReached
from services.core.events import Path as JudgedBy
from services.core.policy import DEFAULT_POLICY
from services.local.postgres import Postgres
from services.local.torchserve import TorchServe
from services.opening import open_models
from services.settings import ModelSettings, RejudgeSettings, TelemetrySettings
from services.stream.causes import Causes
from services.stream.guard import Known
from services.stream.judge import Judge
from services.stream.pool import DecodePool
from services.stream.rejudge import Rejudge
from services.telemetry import open_telemetry
from tests.chaos.world import jpeg, picture
from tests.clients.conftest import dsn_of
from tests.clients.examples import OLD
from tests.stream.test_late import MAX_BYTES, Stream
from tests.stream.test_lookup import NOON


@dataclass
class Again(Stream):
    """The stream around re-judging: verdicts of an old model, and models that serve now."""

    models: Models | None = None
    lag: int = 0

    @property
    def rejudge(self) -> Rejudge:
        async def lag() -> int:
            return self.lag

        settings = RejudgeSettings(uploads_per_s=1000, max_lag=3)
        return Rejudge(self.way, queue=RejudgeQueue(self.database), settings=settings, lag=lag)

    async def serving(self) -> tuple[ModelVersion, ...]:
        assert self.models is not None
        return await self.models.versions()

    def judge(self, objects: Objects | None = None) -> Judge:
        assert self.models is not None
        return Judge(
            objects=objects or self.objects,
            models=self.models,
            ledger=Ledger(self.database),
            causes=Causes(LateQueue(self.database), RejudgeQueue(self.database), self.telemetry),
            policy=DEFAULT_POLICY,
            max_bytes=MAX_BYTES,
            telemetry=self.telemetry,
            now=lambda: NOON,
        )

    async def doubted(self, upload_id: str, seed: int = 7200) -> Known:
        """An upload that an old model was unsure of."""
        it = await self.arrived(upload_id, jpeg(picture(seed)))
        await self.judged(upload_id, it, models=(OLD,), decision=Decision.INCONCLUSIVE, score=0.8)
        await self.project(upload_id)
        return it

    async def project(self, upload_id: str) -> None:
        newest = await Ledger(self.database).latest("acme", upload_id)
        assert newest is not None
        await Verdicts(self.database).project(newest)

    async def ask(self, *, by: tuple[ModelVersion, ...] | None = None, force: bool = False) -> int:
        """A run of all that is doubtful: how many uploads it has."""
        decisions = tuple(Decision) if force else None
        choice = Choice(by or await self.serving(), DEFAULT_POLICY, decisions=decisions, force=force)
        runs = RejudgeRuns(self.database)
        queued, _ = await runs.queue(await runs.begin(choice, None), choice, after=None, limit=100)
        return queued

    async def sent_now(self) -> list[ImageIntaken]:
        """Every job that is due, done by intake: what judge is sent of it."""
        self.sent.clear()
        queue = RejudgeQueue(self.database)
        while job := await queue.claim(pause_s=0, lease_s=1000):
            await self.rejudge.one(job)
        return [event for event in self.sent if isinstance(event, ImageIntaken)]

    async def states(self) -> dict[str, tuple[str, str | None]]:
        async with self.database.connection() as connection:
            statement = "select upload_id, state, reason from rejudge order by run"
            rows = await (await connection.execute(statement)).fetchall()
        return {row["upload_id"]: (row["state"], row["reason"]) for row in rows}

    async def revisions(self, upload_id: str) -> list[VerdictReached]:
        async with self.database.connection() as connection:
            statement = "select event from ledger where upload_id = %s order by revision"
            rows = await (await connection.execute(statement, [upload_id])).fetchall()
        return [VerdictReached.model_validate_json(row["event"]) for row in rows]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(workers=1, timeout_s=120)
    yield pool
    pool.close()


@pytest.fixture
async def again(postgres: Postgres, torchserve: TorchServe, pool: DecodePool, tmp_path: Path) -> AsyncIterator[Again]:
    database = await Database.open(dsn_of(postgres, f"rejudge_{uuid4().hex}"), pool_size=2, timeout_s=30)
    await database.migrate()
    telemetry = open_telemetry(TelemetrySettings(), "test")
    models = open_models(ModelSettings(url=torchserve.url, key_file=torchserve.key_file), Watch())
    yield Again(database, Objects(tmp_path.as_uri()), pool, telemetry, tmp_path, models=models)
    await models.close()
    telemetry.close()
    await database.close()


async def overtaken(again: Again, upload_id: str, path: JudgedBy = JudgedBy.REVIEWED) -> None:
    """Another revision comes: a moderator's unless `path` says otherwise."""
    latest = await Ledger(again.database).latest("acme", upload_id)
    assert latest is not None
    other = latest.model_copy(update={"path": path, "decision": Decision.MANIPULATED})
    await Ledger(again.database).claim_revision(other, "another-cause")


async def test_a_doubtful_verdict_of_an_old_model_is_revised_once_and_says_by_whom(again: Again) -> None:
    await again.doubted("u-1")
    assert await again.ask() == 1
    (event,) = await again.sent_now()
    assert event.rejudging is not None and event.rejudging.models == await again.serving()
    plain = event.model_copy(update={"rejudging": None})
    assert (event.key(), event.event_id() != plain.event_id()) == (plain.key(), True)
    assert await again.states() == {"u-1": ("sent", None)}

    (revised,) = await again.judge().intaken(event)
    assert (revised.upload_id, revised.revision) == ("u-1", 1)
    assert revised.models and OLD not in revised.models
    assert revised.models[0].version in revised.reasons[-1].text
    assert await again.states() == {"u-1": ("revised", None)}
    assert await again.judge().intaken(event) == (revised,)  # redelivered
    await again.project("u-1")
    assert await again.ask() == 0
    assert len(await again.revisions("u-1")) == 2


async def test_a_judge_that_died_before_it_could_say_so_leaves_one_revision(again: Again) -> None:
    await again.doubted("u-1")
    await again.ask()
    (event,) = await again.sent_now()
    (revised,) = await again.judge().intaken(event)
    async with again.database.connection() as connection:
        await connection.execute("update rejudge set state = 'queued', due_at = now()")
    (late,) = await again.judge().intaken(event)
    assert late == revised
    assert await again.states() == {"u-1": ("revised", None)}
    assert len(await again.revisions("u-1")) == 2


async def test_an_intake_that_died_after_sending_does_no_harm(again: Again) -> None:
    await again.doubted("u-1")
    await again.ask()
    (event,) = await again.sent_now()
    async with again.database.connection() as connection:
        await connection.execute("update rejudge set state = 'queued', due_at = now()")
    (twice,) = await again.sent_now()
    first, second = await again.judge().intaken(event), await again.judge().intaken(twice)
    assert first == second
    assert len(await again.revisions("u-1")) == 2


async def test_two_runs_for_the_same_models_are_one_revision(again: Again) -> None:
    await again.doubted("u-1")
    await again.ask()
    async with again.database.connection() as connection:  # as if both had been queued at the same moment
        await connection.execute("insert into rejudge_run (chosen, models) select chosen, models from rejudge_run")
        await connection.execute(
            "insert into rejudge (run, tenant, upload_id, revision, decision, path) "
            "select run + 1, tenant, upload_id, revision, decision, path from rejudge"
        )
    first, second = await again.sent_now()
    assert first.event_id() != second.event_id()
    assert await again.judge().intaken(first) == await again.judge().intaken(second)
    assert len(await again.revisions("u-1")) == 2


async def test_what_says_nothing_new_is_counted_and_not_published(again: Again) -> None:
    it = await again.arrived("u-1", jpeg(picture(7201)))
    first = ImageIntaken(
        upload_id="u-1", tenant="acme", uploaded_at=NOON, image=it.image, fingerprint=it.fingerprint, index_version="x"
    )
    (verdict,) = await again.judge().intaken(first)
    await again.project("u-1")
    assert await again.ask(force=True) == 1
    (event,) = await again.sent_now()
    assert await again.judge().intaken(event) == ()
    assert await again.states() == {"u-1": ("unchanged", None)}
    assert await again.revisions("u-1") == [verdict]


async def test_a_moderator_who_decides_while_it_is_judged_has_the_last_word(again: Again) -> None:
    class Overtaken(Objects):
        async def get(self, key: str, max_bytes: int) -> bytes:
            data = await super().get(key, max_bytes)
            await overtaken(again, "u-1")
            return data

    await again.doubted("u-1")
    await again.ask()
    (event,) = await again.sent_now()
    objects = Overtaken(again.folder.as_uri())
    with pytest.raises(Unavailable):  # the stage tries again
        await again.judge(objects).intaken(event)
    objects.close()
    assert await again.judge().intaken(event) == ()
    assert await again.states() == {"u-1": ("skipped", "reviewed")}
    assert [each.path for each in await again.revisions("u-1")] == [JudgedBy.UNCONSTRAINED, JudgedBy.REVIEWED]


async def test_who_stays_as_it_is_has_a_reason(again: Again) -> None:
    gone = await again.doubted("u-gone", 7202)
    for number, upload in enumerate(("u-reviewed", "u-superseded", "u-erased")):
        await again.doubted(upload, 7203 + number)
    await again.ask()
    (again.folder / gone.image.object_key).unlink()
    await overtaken(again, "u-reviewed")
    await overtaken(again, "u-superseded", JudgedBy.CONSTRAINED_SPG)
    async with again.database.connection() as connection:
        await connection.execute("delete from candidate where original_id = 'u-erased'")
        await connection.execute(
            "delete from content where sha256 = (select sha256 from ledger where upload_id = 'u-erased')"
        )
    assert await again.sent_now() == []
    assert await again.states() == {
        "u-gone": ("skipped", "object_missing"),
        "u-reviewed": ("skipped", "reviewed"),
        "u-superseded": ("skipped", "superseded"),
        "u-erased": ("skipped", "content_unknown"),
    }


async def test_what_was_asked_of_models_that_serve_no_more_is_skipped(again: Again) -> None:
    await again.doubted("u-1")
    await again.ask(by=(ModelVersion(name="unconstrained", version="9.9.9+rolled-back"),))
    (event,) = await again.sent_now()
    assert await again.judge().intaken(event) == ()
    assert await again.states() == {"u-1": ("skipped", "models_changed")}


async def test_nothing_is_taken_up_while_something_fresh_waits(again: Again) -> None:
    await again.doubted("u-1")
    await again.ask()
    backlog = again.rejudge
    again.lag = 4
    assert await backlog.claim() is None
    again.lag = 3
    assert await backlog.claim() is not None
