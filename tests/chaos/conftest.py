from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.chaos.world import World


@pytest.fixture(scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One world for all tests of this folder; each leaves it running."""
    world = World(tmp_path_factory.mktemp("world"))
    await world.start()
    yield world
    await world.stop()


@pytest.fixture
async def world(running: World) -> World:
    """The world with exactly one worker of each group."""
    for group in ("intake", "judge", "learn"):
        alive = [worker for worker in running.workers[group] if worker.poll() is None]
        if len(alive) != 1:
            await running.end(group)
            running.begin(group)
    return running
