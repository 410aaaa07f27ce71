"""The queue of late originals: who is queued, once, at which pace, in whose turn, and what becomes of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.clients.candidates import Candidates, Picture
from services.clients.database import Database
from services.clients.late import LateJob, LateQueue, LateReport, Queued, Uploads
from services.clients.ledger import Ledger
from services.core.events import Path
from services.core.intake.fingerprint import orientations
from tests.clients.examples import pdq_at, picture, sha256_of, verdict

ROUGH = f"{0x9D3C51A7E2B84F06 * 0x1F3D5B79 * (2**150 + 12345) % 2**256:064x}"


@pytest.fixture
def queue(database: Database) -> LateQueue:
    return LateQueue(database)


async def uploaded(database: Database, upload_id: str, word: str, **look: Any) -> None:
    """An upload that came, as intake keeps it."""
    known = picture(word, original_id=upload_id, **look)
    await Uploads(database).remember(known.tenant, upload_id, known.image.sha256)
    await Candidates(database).register(known)


async def add(queue: LateQueue, original: Picture, **asked: Any) -> Queued:
    options: dict[str, Any] = {"max_distance": 90, "ways": 2, "at_most": 10, **asked}
    return await queue.add(original, **options)


async def everything(queue: LateQueue) -> list[LateJob]:
    """All that is due, claimed without any pace."""
    jobs = []
    while job := await queue.claim(pause_s=0, lease_s=1000):
        jobs.append(job)
    return jobs


async def test_earlier_uploads_near_the_original_are_queued_once(database: Database, queue: LateQueue) -> None:
    await uploaded(database, "u-near", "a", pdq=pdq_at(30))
    await uploaded(database, "u-near-again", "a", pdq=pdq_at(30))
    await uploaded(database, "u-far", "b", pdq=pdq_at(120))
    await uploaded(database, "u-theirs", "a", pdq=pdq_at(30), tenant="other")
    original = picture("o", trusted=True)
    assert await add(queue, original) == Queued(2, cut=False)
    assert await add(queue, original) == Queued(0, cut=False)
    assert await queue.waiting() != (0, None)
    jobs = await everything(queue)
    assert {(job.tenant, job.upload_id) for job in jobs} == {("acme", "u-near"), ("acme", "u-near-again")}
    assert {(job.original_id, job.original_sha256, job.attempts) for job in jobs} == {("id-o", sha256_of("o"), 1)}


async def test_mirrored_uploads_are_queued_in_as_many_orientations_as_lookup_seeks(
    database: Database, queue: LateQueue
) -> None:
    await uploaded(database, "u-mirrored", "m", pdq=orientations(ROUGH)[1])
    original = picture("o", trusted=True, pdq=ROUGH)
    assert (await add(queue, original, ways=1)).uploads == 0
    assert (await add(queue, original, ways=2)).uploads == 1


async def test_an_upload_that_was_judged_with_that_very_original_is_not_queued(
    database: Database, queue: LateQueue
) -> None:
    for upload, against in (("u-with", "o"), ("u-without", None)):
        await uploaded(database, upload, upload)
        path = Path.CONSTRAINED_SPG if against else Path.UNCONSTRAINED
        await Ledger(database).claim(verdict(upload, word=upload, against=against, path=path))
    untrusted = verdict("u-untrusted", word="u-untrusted", against="o", text='it is not "trusted":true')
    known = untrusted.candidate
    assert known is not None
    await uploaded(database, "u-untrusted", "u-untrusted")
    candidate = known.model_copy(update={"trusted": False})
    await Ledger(database).claim(untrusted.model_copy(update={"candidate": candidate}))
    assert (await add(queue, picture("o", trusted=True))).uploads == 2
    assert {job.upload_id for job in await everything(queue)} == {"u-without", "u-untrusted"}


async def test_a_popular_original_has_the_nearest_uploads_judged_again_and_says_that_it_was_cut(
    database: Database, queue: LateQueue
) -> None:
    for distance in range(1, 9):
        await uploaded(database, f"u-{distance}", f"w-{distance}", pdq=pdq_at(distance * 4))
    assert await add(queue, picture("o", trusted=True), at_most=3) == Queued(3, cut=True)
    assert {job.upload_id for job in await everything(queue)} == {"u-1", "u-2", "u-3"}
    assert await LateReport(database).cut("acme") == ["id-o"]
    assert await LateReport(database).cut("other") == []


async def test_uploads_that_were_found_otherwise_are_queued_beside_the_near_ones_and_once(
    database: Database, queue: LateQueue
) -> None:
    for name, distance in (("near", 30), ("far", 120), ("farther", 140)):
        await uploaded(database, f"u-{name}", name, pdq=pdq_at(distance))
    await uploaded(database, "u-theirs", "far", tenant="other")
    original = picture("o", trusted=True)
    assert await add(queue, original) == Queued(1, cut=False)
    contents = [sha256_of(name) for name in ("far", "near", "farther", "nobody's")]
    assert await queue.add_these(original, contents[:2], at_most=2) == Queued(1, cut=False)
    assert await queue.add_these(original, contents, at_most=2) == Queued(0, cut=True)
    assert await queue.add_these(original, contents, at_most=3) == Queued(1, cut=False)
    assert {job.upload_id for job in await everything(queue)} == {"u-near", "u-far", "u-farther"}
    assert await LateReport(database).cut("acme") == ["id-o"]


async def test_more_uploads_than_one_look_at_the_graph_gives_are_all_found(
    database: Database, queue: LateQueue
) -> None:
    for number in range(150):
        await uploaded(database, f"u-{number}", f"w-{number}", pdq=pdq_at(1 + number % 40, start=number))
    assert await add(queue, picture("o", trusted=True), at_most=1000) == Queued(150, cut=False)


@pytest.mark.parametrize(("max_distance", "expected"), [(None, {"u-bytes"}), (0, {"u-bytes", "u-hash"})])
async def test_a_flat_original_concerns_its_very_bytes_or_its_very_hash(
    database: Database, queue: LateQueue, max_distance: int | None, expected: set[str]
) -> None:
    await uploaded(database, "u-bytes", "o", quality=0)
    await uploaded(database, "u-hash", "h", quality=0)
    await uploaded(database, "u-near", "n", quality=0, pdq=pdq_at(1))
    await add(queue, picture("o", trusted=True, quality=0), max_distance=max_distance)
    assert {job.upload_id for job in await everything(queue)} == expected


async def test_jobs_come_at_a_pace_that_holds_for_all_processes_together(database: Database) -> None:
    for number in range(5):
        await uploaded(database, f"u-{number}", f"w-{number}")
    queues = [LateQueue(database) for _ in range(6)]
    await add(queues[0], picture("o", trusted=True))
    jobs = await asyncio.gather(*(queue.claim(pause_s=1000, lease_s=1000) for queue in queues))
    assert sum(job is not None for job in jobs) == 1


async def test_processes_at_the_same_time_get_different_jobs(database: Database) -> None:
    for number in range(8):
        await uploaded(database, f"u-{number}", f"w-{number}")
    queues = [LateQueue(database) for _ in range(8)]
    await add(queues[0], picture("o", trusted=True))
    found = [job for part in await asyncio.gather(*(everything(queue) for queue in queues)) for job in part]
    assert len(found) == len({job.upload_id for job in found}) == 8


async def test_tenants_are_served_in_turn(database: Database, queue: LateQueue) -> None:
    for tenant in ("large", "small"):
        for number in range(6 if tenant == "large" else 2):
            await uploaded(database, f"{tenant}-{number}", f"w-{number}", tenant=tenant)
        await add(queue, picture("o", trusted=True, tenant=tenant))
    assert [job.tenant for job in await everything(queue)][:4] == ["large", "small", "large", "small"]


async def test_a_job_that_nobody_settles_comes_again_after_its_lease(database: Database, queue: LateQueue) -> None:
    await uploaded(database, "u", "w")
    await add(queue, picture("o", trusted=True))
    assert (await queue.claim(pause_s=0, lease_s=0)) is not None
    again = await queue.claim(pause_s=0, lease_s=1000)
    assert again is not None
    assert again.attempts == 2
    assert await queue.claim(pause_s=0, lease_s=1000) is None
    await queue.postpone(again, for_s=0)
    assert await queue.claim(pause_s=0, lease_s=1000) is not None


async def test_a_settled_job_is_over_and_reported_and_revised_is_for_ever(database: Database, queue: LateQueue) -> None:
    await uploaded(database, "u-1", "w-1")
    await uploaded(database, "u-2", "w-2")
    await add(queue, picture("o", trusted=True))
    key = ("acme", "u-1", sha256_of("o"))
    assert await queue.settle(*key, "revised")
    assert not await queue.settle(*key, "revised")
    assert not await queue.settle(*key, "sent")  # judge may be faster than the process that sent it
    assert not await queue.settle(*key, "skipped", "object_missing")
    assert await queue.settle("acme", "u-2", sha256_of("o"), "skipped", "object_missing")
    assert await everything(queue) == []
    assert await queue.waiting() == (0, None)
    counts = await LateReport(database).counts("acme")
    assert [(c.state, c.reason, c.uploads) for c in counts] == [("revised", None, 1), ("skipped", "object_missing", 1)]
