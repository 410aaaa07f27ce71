"""A real TorchServe that lets models be loaded, with a tiny model, and what promotes others onto it."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.database import Database
from services.clients.models import NAMES, Limits, TorchServeModels
from services.clients.serving import Serving
from services.local.postgres import Postgres
from services.local.torchserve import TorchServe
from services.promotion.opening import Pair, Promoting, opened
from services.settings import ModelSettings, ObjectSettings, ServingSettings, Settings, WatchSettings
from tests.clients.conftest import dsn_of
from tests.clients.tiny_model import photo

HERE = Path(__file__).parent
MODEL, BASE = "unconstrained", "1.0"
PAIR = Pair(photo(), photo())


def archive(
    version: str, *, name: str = MODEL, fails_with: Path | None = None, broken: bool = False, load_s: float = 0.0
) -> bytes:
    """A `.mar` with the switched tiny model."""
    model = {"modelName": name, "modelVersion": version, "handler": "switched_handler.py:handle"}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    switch = {"version": version, "fails_with": str(fails_with or "/nowhere"), "broken": broken, "load_s": load_s}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("switch.json", json.dumps(switch))
        mar.write(HERE / "switched_handler.py", "switched_handler.py")
        mar.write(HERE.parent / "clients" / "tiny_model.py", "tiny_model.py")
    return whole.getvalue()


@pytest.fixture(scope="session")
async def promotion_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TorchServe]:
    """A TorchServe of these tests' own, whose models they replace."""
    store = tmp_path_factory.mktemp("promotion-archives")
    for name in NAMES:
        (store / f"{name}.mar").write_bytes(archive(BASE, name=name))
    running = TorchServe(tmp_path_factory.mktemp("promotion-torchserve"), model_store=store, model_api=True)
    await asyncio.to_thread(running.start)
    yield running
    await asyncio.to_thread(running.stop)


@pytest.fixture
async def server(promotion_server: TorchServe) -> TorchServe:
    """The server with the model that it started with, and no other."""
    serving = Serving(promotion_server.management_url, key_file=promotion_server.key_file)
    await serving.set_default(MODEL, BASE)
    for each in await serving.served(MODEL):
        if each.version != BASE:
            await serving.remove(MODEL, each.version)
    await serving.close()
    return promotion_server


@pytest.fixture(scope="session")
def promotion_dsn(postgres: Postgres) -> str:
    """The address of these tests' own database."""
    return dsn_of(postgres, f"promotion_{uuid4().hex}")


@pytest.fixture(scope="session")
async def promotion_database(promotion_dsn: str) -> AsyncIterator[Database]:
    opened_one = await Database.open(promotion_dsn, timeout_s=20)
    await opened_one.migrate()
    yield opened_one
    await opened_one.close()


@pytest.fixture
async def database(promotion_database: Database) -> Database:
    """A database without promotions and verdicts."""
    async with promotion_database.connection() as connection:
        await connection.execute("truncate promotion, model_version, verdict, ledger, shadow")
    return promotion_database


@pytest.fixture
def settings(server: TorchServe, tmp_path: Path) -> Settings:
    return Settings(
        models=ModelSettings(url=server.url, key_file=server.key_file),
        objects=ObjectSettings(url=(tmp_path / "objects").as_uri()),
        serving=ServingSettings(
            management_url=server.management_url,
            metrics_url=server.metrics_url,
            store=server.store,
            startup_timeout_s=60,
        ),
        watch=WatchSettings(every_s=0.2, probe_timeout_s=30),
    )


@pytest.fixture
async def promoting(settings: Settings, database: Database) -> AsyncIterator[Promoting]:
    async with opened(settings, database, PAIR) as found:
        yield found


@pytest.fixture
async def models(server: TorchServe) -> AsyncIterator[TorchServeModels]:
    """The client that judge has."""
    client = TorchServeModels(server.url, limits=Limits(timeout_s=60, breaker_failures=1000), key_file=server.key_file)
    yield client
    await client.close()
