"""The embedder's client: what it makes of answers, good and bad, and against a real TorchServe with our own archive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from safetensors.numpy import save

from services.clients.embedding import Embedder, Limits, TorchServeEmbedder, read_embedding
from services.core.errors import Broken, Rejected, Unavailable
from services.core.intake.regions import REGIONS
from services.local.torchserve import EMBEDDER, TorchServe
from tests.clients.serving import Handle, serving
from tests.clients.tiny_model import photo

ONCE = Limits(timeout_s=20, retry_share=0.0, breaker_failures=100)
VERSION = "0.1.0+0123456789ab"
SAID = {"embedder": f"embedder-{VERSION}", "model": "embedder", "version": VERSION, "seconds": "0.01"}


def unit(count: int = len(REGIONS), length: int = 64) -> np.ndarray:
    """Random vectors of length 1."""
    vectors = np.random.default_rng(0).normal(size=(count, length))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def answer(vectors: np.ndarray | None = None, said: dict[str, str] | None = None, name: str = "vectors") -> bytes:
    """What the handler answers, or nearly."""
    kept = unit().astype(np.float16) if vectors is None else vectors
    return bytes(save({name: kept}, SAID if said is None else said))


def octets(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/octet-stream")


async def healthy(request: web.Request) -> web.Response:
    """A server with the embedder."""
    if request.path == "/ping":
        return web.json_response({"status": "Healthy"})
    form = await request.post()
    if "describe" in form:
        return web.json_response({"model": "embedder", "version": VERSION})
    return octets(answer())


@asynccontextmanager
async def embedder_on(handle: Handle, **options: object) -> AsyncIterator[TorchServeEmbedder]:
    async with serving(handle) as url:
        embedder = TorchServeEmbedder(url, **{"limits": ONCE, **options})  # type: ignore[arg-type]
        try:
            yield embedder
        finally:
            await embedder.close()


async def test_an_image_gets_a_vector_of_length_1_for_each_region_and_their_makers_name() -> None:
    async with embedder_on(healthy) as embedder:
        found = await embedder.embed(photo())
    assert found.embedder == f"embedder-{VERSION}"
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(found.vectors, unit(), atol=1e-3)


async def test_the_version_comes_from_the_last_answer_while_that_is_fresh() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append("describe" if "describe" in await request.post() else "embed")
        return await healthy(request)

    async with embedder_on(handle) as embedder:
        await embedder.embed(photo())
        assert await embedder.version() == f"embedder-{VERSION}"
        assert asked == ["embed"]
    async with embedder_on(handle) as fresh:
        assert await fresh.version() == f"embedder-{VERSION}"
        await fresh.ready()
    assert asked[1] == "describe"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no safetensors file"),
        (b"\x89PNG\r\n\x1a\n" * 4, "no safetensors file"),
        (answer()[:-2], "bytes are not"),
        (answer() + b"\0\0", "bytes are not"),
        (answer(unit().astype(np.float32)), "dtype"),
        (answer(unit(5).astype(np.float16)), "14 regions"),
        (answer(unit(length=64)[None].astype(np.float16)), "shape"),
        (answer(np.zeros((14, 64), np.float16)), "length 1"),
        (answer(np.full((14, 64), np.nan, np.float16)), "length 1"),
        (answer(np.full((14, 64), np.inf, np.float16)), "length 1"),
        (answer((unit() * 1.1).astype(np.float16)), "length 1"),
        (answer(name="mask"), "vectors"),
        (answer(said={}), "__metadata__"),
        (answer(said=SAID | {"model": "unconstrained"}), "check what the server hosts"),
        (answer(said=SAID | {"embedder": "embedder-of-another-release"}), "check what the server hosts"),
        ((40).to_bytes(8, "little") + b"{" * 40, "header does not fit"),
    ],
)
def test_anything_that_the_handler_never_writes_is_broken(body: bytes, text: str) -> None:
    with pytest.raises(Broken, match=text):
        read_embedding(body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (422, {"error": {"kind": "rejected", "code": "corrupt", "message": "cannot be decoded"}}, Rejected, "decoded"),
        (500, {"error": {"kind": "broken", "message": "KeyError: 'x'"}}, Broken, "KeyError"),
        (404, {"code": 404, "type": "ModelNotFoundException"}, Unavailable, "embedder.*no such model"),
        (503, {"code": 503, "message": "no worker"}, Unavailable, "no worker"),
        (401, {}, Unavailable, "refuses the key"),
        (200, {"vectors": []}, Broken, "instead of vectors"),
    ],
)
async def test_each_answer_has_its_kind_of_error(status: int, body: object, kind: type[Exception], text: str) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    async with embedder_on(handle) as embedder:
        with pytest.raises(kind, match=text):
            await embedder.embed(photo())


async def test_a_server_that_hangs_costs_no_more_than_the_deadline() -> None:
    async def handle(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with embedder_on(handle, limits=Limits(timeout_s=0.2, retry_share=1.0)) as embedder:
        with pytest.raises(Unavailable, match="before the deadline"):
            await embedder.embed(photo())


async def test_a_server_without_the_embedder_is_not_ready() -> None:
    async def handle(request: web.Request) -> web.Response:
        return await healthy(request) if request.path == "/ping" else web.json_response({}, status=404)

    async with embedder_on(handle) as embedder:
        with pytest.raises(Unavailable, match="no such model"):
            await embedder.ready()


async def test_a_new_key_is_read_where_the_old_one_expired(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer second":
            return web.json_response({}, status=401)
        return await healthy(request)

    key_file = tmp_path / "key_file.json"
    key_file.write_text(json.dumps({"inference": {"key": "first"}}))
    async with embedder_on(handle, key_file=key_file) as embedder:
        with pytest.raises(Unavailable, match="KEY_FILE"):
            await embedder.embed(photo())
        key_file.write_text(json.dumps({"inference": {"key": "second"}}))
        assert (await embedder.embed(photo())).vectors.shape == (len(REGIONS), 64)


@pytest.fixture(scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Embedder]:
    """A client of a TorchServe with the embedder alone."""
    server = TorchServe(tmp_path_factory.mktemp("embedder"), models=(EMBEDDER,))
    await asyncio.to_thread(server.start)
    client = TorchServeEmbedder(server.url, limits=Limits(timeout_s=120), key_file=server.key_file)
    yield client
    await client.close()
    await asyncio.to_thread(server.stop)


async def test_a_real_server_embeds_many_at_once_each_as_alone(real: Embedder) -> None:
    await real.ready()
    alone = await real.embed(photo(150, 101))
    assert alone.embedder == await real.version()
    together = await asyncio.gather(*(real.embed(photo(150, 101)) for _ in range(6)))
    for found in together:
        assert found.embedder == alone.embedder
        np.testing.assert_allclose(found.vectors, alone.vectors, atol=2e-3)


async def test_a_real_server_rejects_what_is_no_picture_with_its_reason(real: Embedder) -> None:
    with pytest.raises(Rejected) as refused:
        await real.embed(b"this is no picture")
    assert refused.value.code == "unsupported_type"
