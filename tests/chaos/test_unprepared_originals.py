"""Originals that come faster than they can be prepared, on the whole stream, and a worker that dies before they are."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from services.clients.candidates import Candidates
from services.clients.database import Database
from services.clients.preparation import Unprepared
from services.clients.words import WordIndex
from services.core.intake.examine import Limits, examine
from services.opening import open_vocabulary
from tests.chaos.world import World, jpeg, picture, until

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

SEEDS = itertools.count(7700)
MANY = 24


@pytest.fixture
async def database(world: World) -> AsyncIterator[Database]:
    opened = await Database.open(world.postgres.dsn, pool_size=2, timeout_s=30)
    await opened.migrate()  # whichever comes first, this or a worker
    yield opened
    await opened.close()


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_originals_wait_for_their_words_and_not_for_each_other_and_a_worker_that_ends_loses_none(
    world: World, database: Database, how: str
) -> None:
    tenant, unprepared = f"t-{uuid4().hex[:10]}", Unprepared(database)
    originals = [jpeg(picture(next(SEEDS), size=(800, 600)), 80) for _ in range(MANY)]
    hashes = [examine(data, Limits()).fingerprint for data in originals]
    for number, data in enumerate(originals):
        await world.original(data, f"o-{number}", tenant=tenant)

    async def all_findable() -> bool:
        for number, look in enumerate(hashes):
            near = await Candidates(database).nearest(tenant, look, max_distance=0, limit=2, trusted=True)
            if [each.picture.original_id for each in near] != [f"o-{number}"]:
                return False
        return True

    await until(all_findable)
    world.kill("intake")
    assert await unprepared.any(tenant), (
        "all of them were prepared before the worker was killed: the test shows nothing"
    )
    world.begin("intake")

    async def none_waits() -> bool:
        return not await unprepared.any(tenant)

    await until(none_waits)
    assert await WordIndex(database, open_vocabulary().name).missing(tenant, limit=MANY) == []
