"""Re-judging's queue: which verdicts are chosen, once, at which pace, and what the report says of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.ledger import Ledger
from services.clients.rejudge import Choice, RejudgeJob, RejudgeQueue, RejudgeRuns
from services.clients.rejudge_report import RejudgeReport
from services.core.events import Decision, ModelVersion, Path, VerdictReached
from services.core.policy import DEFAULT_POLICY
from tests.clients.examples import NOON, PAIR, SINGLE, verdict

NEW = ModelVersion(name="unconstrained", version="0.2.0+cccccccccccc")
CHOICE = Choice(models=(PAIR, NEW), policy=DEFAULT_POLICY)
DOUBT = Decision.INCONCLUSIVE


@pytest.fixture
def queue(database: Database) -> RejudgeQueue:
    return RejudgeQueue(database)


async def judged(
    database: Database, upload_id: str, *, score: float = 0.3, revision: int = 0, **facts: Any
) -> VerdictReached:
    """A verdict as judge and learn keep it: by an earlier model, doubtful unless `facts` say otherwise."""
    asked = {"decision": DOUBT, "path": Path.UNCONSTRAINED, "against": None, "models": (SINGLE,), "word": upload_id}
    made = verdict(upload_id, **asked | facts)
    if made.path is not Path.REJECTED:
        made = made.model_copy(update={"score": score})
    ledger = Ledger(database)
    made = await (ledger.claim_revision(made, f"cause-{revision}") if revision else ledger.claim(made))
    await Verdicts(database).project(made)
    return made


async def asked(database: Database, choice: Choice = CHOICE, *, rate: float | None = None, page: int = 2) -> list[str]:
    """The uploads that a run of this choice has, queued page by page."""
    runs = RejudgeRuns(database)
    run, place, queued = await runs.begin(choice, rate), None, 0
    while True:
        more, place = await runs.queue(run, choice, after=place, limit=page)
        queued += more
        if place is None:
            break
    async with database.connection() as connection:
        statement = "select upload_id from rejudge where run = %s order by upload_id"
        rows = await (await connection.execute(statement, [run])).fetchall()
    assert len(rows) == queued
    return [row["upload_id"] for row in rows]


async def everything(queue: RejudgeQueue) -> list[RejudgeJob]:
    """All that is due, claimed without any pace."""
    jobs = []
    while job := await queue.claim(pause_s=0, lease_s=1000):
        jobs.append(job)
    return jobs


async def test_doubtful_verdicts_of_other_models_are_chosen_by_their_newest_revision(database: Database) -> None:
    await judged(database, "doubtful")
    await judged(database, "in-the-band", decision=Decision.MANIPULATED, score=0.8)
    await judged(database, "sure", decision=Decision.MANIPULATED, score=0.95)
    await judged(database, "pair-band", path=Path.CONSTRAINED_SPG, decision=Decision.NO_EVIDENCE, score=0.6)
    await judged(database, "pair-sure", path=Path.CONSTRAINED_SPG, decision=Decision.MANIPULATED, score=0.8)
    await judged(database, "by-these-models", models=(NEW,))
    await judged(database, "reused", path=Path.REUSED)
    await judged(database, "identical", path=Path.IDENTICAL, models=())
    await judged(database, "refused", path=Path.REJECTED)
    for upload, path in (("reviewed", Path.REVIEWED), ("decided-since", Path.CONSTRAINED_SPG)):
        await judged(database, upload)
        await judged(database, upload, revision=1, path=path, decision=Decision.NO_EVIDENCE, score=0.1)
    assert await asked(database) == ["doubtful", "in-the-band", "pair-band", "reused"]


@pytest.mark.parametrize(
    ("narrower", "expected"),
    [
        ({"tenant": "other"}, ["theirs"]),
        ({"paths": (Path.CONSTRAINED_SPG,)}, ["pair"]),
        ({"decisions": (Decision.MANIPULATED,)}, ["sure"]),
        ({"since": NOON + timedelta(minutes=5)}, ["late"]),
        ({"until": NOON + timedelta(minutes=5), "tenant": "acme"}, ["alone", "pair"]),
        ({"force": True, "tenant": "acme"}, ["alone", "by-these-models", "late", "pair"]),
    ],
)
async def test_a_choice_can_be_narrowed_or_forced(
    database: Database, narrower: dict[str, Any], expected: list[str]
) -> None:
    await judged(database, "alone")
    await judged(database, "pair", path=Path.CONSTRAINED_SPG)
    await judged(database, "sure", decision=Decision.MANIPULATED, score=0.95)
    await judged(database, "late", minutes=10)
    await judged(database, "theirs", tenant="other", minutes=1)
    await judged(database, "by-these-models", models=(NEW,), minutes=6)
    choice = replace(CHOICE, **narrower)
    counts = await RejudgeRuns(database).count(choice)
    if "since" not in narrower:
        assert sum(each.uploads for each in counts) == len(expected)
    assert await asked(database, choice) == expected


async def test_asked_twice_a_verdict_is_queued_once_unless_it_was_skipped(
    database: Database, queue: RejudgeQueue
) -> None:
    for upload in ("u-1", "u-2", "u-3", "u-4"):
        await judged(database, upload)
    assert len(await asked(database)) == 4
    assert await asked(database) == []
    jobs = {job.upload_id: job for job in await everything(queue)}
    run = jobs["u-1"].asked.run
    await queue.settle("acme", "u-1", run, "skipped", reason="object_missing")
    await queue.settle("acme", "u-2", run, "unchanged", verdict=verdict("u-2"))
    await queue.settle("acme", "u-3", run, "sent")
    assert await asked(database, replace(CHOICE, force=True)) == ["u-1", "u-2"]
    assert await asked(database) == []
    assert await asked(database, replace(CHOICE, models=(PAIR, replace_version(NEW, "0.3.0")))) == [
        "u-1", "u-2", "u-3", "u-4"
    ]  # fmt: skip


def replace_version(model: ModelVersion, version: str) -> ModelVersion:
    return model.model_copy(update={"version": version})


async def test_a_job_names_the_revision_and_the_models_and_comes_again_after_its_lease(
    database: Database, queue: RejudgeQueue
) -> None:
    await judged(database, "u-1")
    await judged(database, "u-1", revision=1)
    await asked(database)
    first = await queue.claim(pause_s=0, lease_s=0)
    again = await queue.claim(pause_s=0, lease_s=1000)
    assert first is not None and again is not None
    assert (again.asked.revision, again.asked.models, again.attempts) == (1, (PAIR, NEW), 2)
    assert await queue.claim(pause_s=0, lease_s=1000) is None
    assert await queue.due_in_s() is None
    await queue.postpone(again, for_s=0)
    assert await queue.due_in_s() == 0
    assert await queue.waiting() == 1


@pytest.mark.parametrize(("rate", "pause_s"), [(None, 1000), (0.001, 0)])
async def test_jobs_come_at_a_pace_that_holds_for_all_processes_together(
    database: Database, rate: float | None, pause_s: float
) -> None:
    for number in range(4):
        await judged(database, f"u-{number}")
    await asked(database, rate=rate)
    queues = [RejudgeQueue(database) for _ in range(6)]
    jobs = await asyncio.gather(*(queue.claim(pause_s=pause_s, lease_s=1000) for queue in queues))
    assert sum(job is not None for job in jobs) == 1
    wait = await queues[0].due_in_s()
    assert wait is not None and wait > 900


async def test_processes_at_the_same_time_get_different_jobs_and_the_older_run_goes_first(database: Database) -> None:
    for number in range(8):
        await judged(database, f"u-{number}")
    await asked(database)
    await judged(database, "u-later", minutes=-10)
    await asked(database)
    queues = [RejudgeQueue(database) for _ in range(4)]
    jobs = [job for part in await asyncio.gather(*(everything(queue) for queue in queues)) for job in part]
    assert len(jobs) == len({job.upload_id for job in jobs}) == 9
    first = await RejudgeReport(database).run(None)
    assert first is not None
    assert [job.upload_id for job in jobs if job.asked.run == first.id] == ["u-later"]


async def test_the_report_counts_states_and_flips_and_changes_of_score(database: Database, queue: RejudgeQueue) -> None:
    for number in range(4):
        await judged(database, f"u-{number}", score=0.8)
    await asked(database)
    run = (await everything(queue))[0].asked.run

    async def becomes(upload_id: str, decision: Decision, score: float, state: str = "revised") -> bool:
        reached = verdict(upload_id, decision=decision).model_copy(update={"score": score})
        return await queue.settle("acme", upload_id, run, state, verdict=reached)  # type: ignore[arg-type]

    assert await becomes("u-0", Decision.MANIPULATED, 0.9)
    assert await becomes("u-1", Decision.NO_EVIDENCE, 0.1)
    assert await becomes("u-2", DOUBT, 0.8, "unchanged")
    assert await queue.settle("acme", "u-3", run, "skipped", reason="reviewed")
    assert not await queue.settle("acme", "u-0", run, "sent")  # judge may be faster than the process that sent it
    assert not await queue.settle("acme", "u-0", run, "skipped", reason="superseded")

    reports = RejudgeReport(database)
    tallies = {(each.state, each.became): each for each in await reports.tallies(run)}
    assert {key: each.uploads for key, each in tallies.items()} == {
        ("revised", "manipulated"): 1, ("revised", "no_evidence"): 1, ("unchanged", "inconclusive"): 1,
        ("skipped", None): 1,
    }  # fmt: skip
    assert tallies["revised", "no_evidence"].change == pytest.approx(-0.7)
    assert tallies["skipped", None].reason == "reviewed"
    assert [flip.upload_id for flip in await reports.flips(run, limit=10)] == ["u-1", "u-0"]
    assert [flip.upload_id for flip in await reports.flips(run, limit=1)] == ["u-1"]
    newest, named = await reports.run(None), await reports.run(run)
    assert newest == named
    assert named is not None and named.models == ("constrained@0.1.0+aaaaaaaaaaaa", "unconstrained@0.2.0+cccccccccccc")
    assert await reports.run(10_000) is None
