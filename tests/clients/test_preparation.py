"""The queue of originals that wait to be prepared: who is in it, to whom each is given, and when it leaves."""

from __future__ import annotations

import asyncio

import pytest

from services.clients.candidates import Candidates, Originals
from services.clients.database import Database
from services.clients.preparation import PreparationQueue, Unprepared
from tests.clients.examples import picture, sha256_of


@pytest.fixture
def queue(database: Database) -> PreparationQueue:
    return PreparationQueue(database)


async def registered(database: Database, *words: str, tenant: str = "acme") -> None:
    for word in words:
        await Candidates(database).register(picture(word, trusted=True, tenant=tenant))


async def ids(queue: PreparationQueue, *, lease_s: float = 1000) -> list[str]:
    """What is given out now, until nothing more is."""
    found = []
    while job := await queue.claim(lease_s=lease_s):
        found.append(job.picture.original_id)
    return found


async def test_an_original_waits_from_its_registration_on_and_an_upload_does_not(
    database: Database, queue: PreparationQueue
) -> None:
    original = picture("a", trusted=True)
    await Candidates(database).register(original)
    await Candidates(database).register(picture("b"))
    await Candidates(database).register(picture("a"))  # the same content as an upload, too
    waiting, oldest = await queue.waiting()
    assert waiting == 1
    job = await queue.claim(lease_s=1000)
    assert job is not None
    assert (job.picture, job.attempts, job.since) == (original, 1, oldest)


async def test_a_claimed_original_is_nobody_elses_until_its_lease_is_over(
    database: Database, queue: PreparationQueue
) -> None:
    await registered(database, "a")
    first = await queue.claim(lease_s=0)
    again = await queue.claim(lease_s=1000)
    assert first is not None and again is not None
    assert (again.picture, again.attempts, again.since) == (first.picture, 2, first.since)
    assert await queue.claim(lease_s=1000) is None


async def test_many_that_claim_at_once_share_what_there_is(database: Database, queue: PreparationQueue) -> None:
    words = [f"{number}" for number in range(12)]
    await registered(database, *words)
    jobs = await asyncio.gather(*(queue.claim(lease_s=1000) for _ in range(6)))
    taken = [job.picture.original_id for job in jobs if job is not None] + await ids(queue)
    assert sorted(taken) == sorted(f"id-{word}" for word in words)


async def test_what_is_postponed_comes_later_and_what_is_settled_never(
    database: Database, queue: PreparationQueue
) -> None:
    await registered(database, "a", "b")
    for _ in range(2):
        job = await queue.claim(lease_s=1000)
        assert job is not None
        if job.picture.original_id == "id-a":
            await queue.postpone(job, for_s=0)
        else:
            assert await queue.settle(job)
            assert not await queue.settle(job)
    assert await ids(queue) == ["id-a"]
    assert (await queue.waiting())[0] == 1


async def test_an_original_that_is_removed_leaves_the_queue(database: Database, queue: PreparationQueue) -> None:
    await registered(database, "a", "b")
    job = await queue.claim(lease_s=1000)
    assert job is not None
    await Originals(database).remove("acme", [job.picture.original_id])
    assert not await queue.settle(job)
    assert (await queue.waiting())[0] == 1


async def test_registered_again_it_waits_once_and_anew_when_it_was_settled(
    database: Database, queue: PreparationQueue
) -> None:
    await registered(database, "a")
    since = (await queue.waiting())[1]
    await registered(database, "a")
    assert await queue.waiting() == (1, since)
    job = await queue.claim(lease_s=1000)
    assert job is not None
    await queue.settle(job)
    await registered(database, "a")  # redelivered, or sent again: whoever prepares it finds it done
    assert (await queue.waiting())[0] == 1


async def test_what_waits_is_told_by_tenant_and_content(database: Database, queue: PreparationQueue) -> None:
    unprepared = Unprepared(database)
    await registered(database, "a", "b")
    await registered(database, "a", tenant="other")
    assert [await unprepared.any(tenant) for tenant in ("acme", "other", "nobody")] == [True, True, False]
    contents = [sha256_of(word) for word in ("a", "c")]
    assert await unprepared.among("acme", contents) == {sha256_of("a")}
    await unprepared.remove([picture("a", trusted=True), picture("b", trusted=True)])
    assert [await unprepared.any(tenant) for tenant in ("acme", "other")] == [False, True]
    assert await unprepared.among("acme", contents) == set()


async def test_what_somebody_prepares_without_the_queue_is_not_given_out_meanwhile(
    database: Database, queue: PreparationQueue
) -> None:
    await registered(database, "a", "b")
    await registered(database, "a", tenant="other")
    await Unprepared(database).hold([picture("a", trusted=True)], for_s=1000)
    jobs = [await queue.claim(lease_s=1000) for _ in range(3)]
    given = {(job.picture.tenant, job.picture.original_id) for job in jobs if job is not None}
    assert given == {("acme", "id-b"), ("other", "id-a")}
