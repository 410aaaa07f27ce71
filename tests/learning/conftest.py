"""A database and an object store of the learning loop, empty at the start of each test, and a world to fill them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.database import Database
from services.clients.objects import Objects
from services.local.postgres import Postgres
from tests.clients.conftest import dsn_of, emptied
from tests.learning.world import World


@pytest.fixture(scope="session")
def dsn(postgres: Postgres) -> str:
    return dsn_of(postgres, f"learning_{uuid4().hex}")


@pytest.fixture(scope="session")
async def opened(dsn: str) -> AsyncIterator[Database]:
    database = await Database.open(dsn, pool_size=4, timeout_s=20)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def world(opened: Database, dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    await emptied(opened)
    objects = Objects(f"file://{tmp_path}/objects")
    yield World(opened, objects, dsn, tmp_path / "objects")
    objects.close()
