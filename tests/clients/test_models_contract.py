"""What every implementation of `Models` does, on real servers: TorchServe, a small OIP server, and MLServer."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable

import pytest
from PIL import Image

from services.clients.models import Limits, Models, TorchServeModels
from services.clients.oip import OipModels
from services.core.errors import Rejected
from tests.clients.mlserver_process import CannotInstall, running
from tests.clients.oip_server import answer
from tests.clients.serving import serving
from tests.clients.tiny_model import photo

LIMITS = Limits(timeout_s=120, in_flight=4)


Connect = Callable[[], Models]


@pytest.fixture(scope="module", params=["torchserve", "oip", pytest.param("mlserver", marks=pytest.mark.slow)])
async def connect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Connect]:
    """A running server of each kind, as a way to make clients of it."""
    match request.param:
        case "torchserve":
            server = request.getfixturevalue("torchserve")
            yield lambda: TorchServeModels(server.url, limits=LIMITS, key_file=server.key_file)
        case "oip":
            async with serving(answer) as url:
                yield lambda: OipModels(url, limits=LIMITS)
        case "mlserver":
            try:
                with running(tmp_path_factory.mktemp("mlserver")) as url:
                    yield lambda: OipModels(url, limits=LIMITS)
            except CannotInstall as reason:
                pytest.skip(f"MLServer cannot be installed here: {reason}")


@pytest.fixture
async def models(connect: Connect) -> AsyncIterator[Models]:
    """A fresh client, which knows nothing from earlier answers."""
    client = connect()
    yield client
    await client.close()


async def test_a_server_with_both_models_is_ready(models: Models) -> None:
    await models.ready()


async def test_an_upload_alone_gets_a_mask_of_its_own_size(models: Models) -> None:
    found = await models.unconstrained(photo(150, 101))
    mask = Image.open(io.BytesIO(found.png))
    assert (mask.mode, mask.size) == ("L", (150, 101))
    assert (found.width, found.height) == (150, 101)
    assert found.model.name == "unconstrained"
    assert found.kind is None
    assert 0 <= found.score <= 1
    assert 0 <= found.qes <= 1


async def test_a_pair_gets_a_mask_of_the_uploads_size_and_a_kind(models: Models) -> None:
    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    found = await models.constrained(photo(150, 101), photo(150, 101), identity)
    assert Image.open(io.BytesIO(found.png)).size == (150, 101)
    assert found.model.name == "constrained"
    assert found.kind in ("spg", "sdg", "unrelated")


async def test_a_pair_without_a_known_homography_is_answered_too(models: Models) -> None:
    found = await models.constrained(photo(150, 101), photo(200, 140), None)
    assert (found.width, found.height) == (150, 101)


async def test_a_picture_that_cannot_be_read_is_rejected_with_its_reason(models: Models) -> None:
    with pytest.raises(Rejected) as alone:
        await models.unconstrained(b"this is no picture")
    assert alone.value.code in ("corrupt", "unsupported_type")
    with pytest.raises(Rejected):
        await models.constrained(photo(), b"this is no picture", None)


async def test_the_versions_are_those_that_answers_carry_constrained_first(models: Models) -> None:
    versions = await models.versions()
    assert [model.name for model in versions] == ["constrained", "unconstrained"]
    answers = (await models.constrained(photo(), photo(), None), await models.unconstrained(photo()))
    assert versions == tuple(found.model for found in answers)
