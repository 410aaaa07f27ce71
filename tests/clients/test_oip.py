"""The Open Inference Protocol's client against a real HTTP server that answers what a test wants.

What a healthy server answers is in `test_models_contract.py`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from services.clients.models import Limits
from services.clients.oip import OipModels
from services.core.errors import Broken, Rejected, Unavailable
from tests.clients.oip_server import answer
from tests.clients.serving import Handle, serving
from tests.clients.tiny_model import photo

ONCE = Limits(timeout_s=20, retry_share=0.0, breaker_failures=100)
REFUSAL = json.dumps({"error": {"kind": "rejected", "code": "truncated", "message": "ends early"}})


@asynccontextmanager
async def oip_on(handle: Handle, **options: object) -> AsyncIterator[OipModels]:
    async with serving(handle) as url:
        models = OipModels(url, **{"limits": ONCE, **options})  # type: ignore[arg-type]
        try:
            yield models
        finally:
            await models.close()


def always(status: int, body: object) -> Handle:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return handle


def output(name: str, *data: object, datatype: str = "BYTES") -> dict[str, object]:
    return {"outputs": [{"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (200, output("error", REFUSAL), Rejected, "ends early"),
        (200, output("error", "out of order"), Broken, "unreadable error output"),
        (200, output("localisation", "not base64 !"), Broken, "not base64"),
        (200, output("localisation", "aGVsbG8="), Broken, "no PNG"),
        (200, output("localisation", 1.0, datatype="FP32"), Broken, "want one of BYTES"),
        (200, output("localisation", "a", "b"), Broken, "want one of BYTES"),
        (200, output("logits", "a"), Broken, "want localisation or error"),
        (200, {"predictions": []}, Broken, "no inference response"),
        (400, {"error": "Model unconstrained is not ready yet."}, Unavailable, "not ready"),
        (400, {"error": "input 'upload' is missing"}, Broken, "is missing"),
        (401, {}, Unavailable, "TOKEN"),
        (404, {"error": "Model unconstrained not found"}, Unavailable, "not found"),
        (413, {}, Broken, "too big"),
        (500, {"error": "CUDA out of memory"}, Unavailable, "out of memory"),
        (503, {"error": "exceeds maximum queue size"}, Unavailable, "queue"),
    ],
)
async def test_each_answer_has_its_kind_of_error(status: int, body: object, kind: type[Exception], text: str) -> None:
    async with oip_on(always(status, body)) as models:
        with pytest.raises(kind, match=text):
            await models.unconstrained(photo())


async def test_a_server_that_is_not_ready_or_lacks_a_model_is_unavailable() -> None:
    async def without_models(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.path == "/v2/health/ready" else 404)

    for handle in (always(503, {}), without_models):
        async with oip_on(handle) as models:
            with pytest.raises(Unavailable, match="not ready"):
                await models.ready()


async def test_metadata_without_a_version_are_broken() -> None:
    async with oip_on(always(200, {"name": "constrained", "versions": []})) as models:
        with pytest.raises(Broken, match="name no version"):
            await models.versions()


async def test_the_token_goes_along_and_is_asked_for_by_name_when_it_is_refused() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("authorization") != "Bearer open-sesame":
            return web.json_response({}, status=403)
        return await answer(request)

    async with oip_on(handle, token="open-sesame") as models:
        assert (await models.unconstrained(photo())).model.name == "unconstrained"
    async with oip_on(handle, token="hush-hush") as models:
        with pytest.raises(Unavailable, match="PENTIMENTO_MODELS__TOKEN") as refused:
            await models.unconstrained(photo())
    assert "hush" not in str(refused.value)
