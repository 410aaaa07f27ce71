"""The client against a real TorchServe that loses its worker, goes away, and comes back with other keys."""

from __future__ import annotations

import asyncio
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.clients.localisation import Localisation
from services.clients.models import Limits, TorchServeModels
from services.core.errors import Rejected, Unavailable
from services.local.torchserve import TorchServe
from tests.clients.tiny_model import VERSIONS, photo

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

HERE = Path(__file__).parent
ONCE = Limits(timeout_s=60, retry_share=0.0, breaker_failures=1000)


def archive(folder: Path, name: str) -> None:
    """A `.mar` with the tiny model."""
    model = {"modelName": name, "modelVersion": "1.0", "handler": "tiny_handler.py:handle"}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(folder / f"{name}.mar", "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        for file in ("tiny_handler.py", "tiny_model.py"):
            mar.write(HERE / file, file)


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TorchServe]:
    """A TorchServe of this module's own, because its tests stop it."""
    store = tmp_path_factory.mktemp("tiny-archives")
    for name in VERSIONS:
        archive(store, name)
    running = TorchServe(tmp_path_factory.mktemp("tiny-torchserve"), model_store=store)
    await asyncio.to_thread(running.start)
    yield running
    await asyncio.to_thread(running.stop)


@pytest.fixture
async def models(server: TorchServe) -> AsyncIterator[TorchServeModels]:
    client = TorchServeModels(server.url, limits=ONCE, key_file=server.key_file)
    yield client
    await client.close()


async def until_answered(models: TorchServeModels) -> Localisation:
    """The first answer after the server was away, however often it is not there yet."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await models.unconstrained(photo())
            except Unavailable:
                await asyncio.sleep(0.1)


async def test_many_at_once_are_batched_by_the_server_and_each_gets_its_own_answer(models: TorchServeModels) -> None:
    sizes = [(40 + 10 * step, 30 + step) for step in range(12)]
    answers = await asyncio.gather(
        *(models.constrained(photo(*size), photo(*size), None) for size in sizes),
        *(models.unconstrained(b"no picture") for _ in range(3)),
        return_exceptions=True,
    )
    found, refused = answers[:12], answers[12:]
    assert [(item.width, item.height) for item in found if isinstance(item, Localisation)] == sizes
    assert all(isinstance(error, Rejected) for error in refused)


async def test_a_worker_that_dies_with_an_image_is_unavailable_and_is_back_soon(models: TorchServeModels) -> None:
    with pytest.raises(Unavailable):
        await models.unconstrained(b"kill the worker")
    assert (await until_answered(models)).model.name == "unconstrained"


async def test_after_a_restart_the_new_key_is_found_in_the_key_file(
    server: TorchServe, models: TorchServeModels
) -> None:
    await models.ready()
    old_key = json.loads(server.key_file.read_text())["inference"]["key"]
    await asyncio.to_thread(server.kill)
    with pytest.raises(Unavailable):
        await models.unconstrained(photo())
    with pytest.raises(Unavailable):
        await models.ready()
    await asyncio.to_thread(server.start)
    assert json.loads(server.key_file.read_text())["inference"]["key"] != old_key
    assert (await until_answered(models)).model.version == VERSIONS["unconstrained"]
    await models.ready()
    assert [model.version for model in await models.versions()] == list(VERSIONS.values())
