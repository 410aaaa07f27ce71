"""TorchServe's client against a real HTTP server that misbehaves as TorchServe 0.12 was seen to do, on demand.

What a healthy TorchServe answers is in `test_models_contract.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from services.clients.breaker import Circuit
from services.clients.models import Limits, TorchServeModels, Watch
from services.core.errors import Broken, Rejected, Unavailable
from tests.clients.serving import Handle, hang_up, png, serving
from tests.clients.tiny_model import VERSIONS, localise, photo, png_of

ONCE = Limits(timeout_s=20, retry_share=0.0, breaker_failures=100)
"""No retries and no circuit: what one answer means."""

REFUSED_KEY = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}
NO_WORKER = {
    "code": 503,
    "type": "ServiceUnavailableException",
    "message": 'Model "constrained" has no worker to serve',
}
DEAD_WORKER = {"code": 500, "type": "InternalServerException", "message": "Worker died."}


@asynccontextmanager
async def models_on(handle: Handle, **options: object) -> AsyncIterator[TorchServeModels]:
    async with serving(handle) as url:
        models = TorchServeModels(url, **{"limits": ONCE, **options})  # type: ignore[arg-type]
        try:
            yield models
        finally:
            await models.close()


def always(status: int, body: object) -> Handle:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return handle


async def judge(request: web.Request) -> web.Response:
    """What a healthy server answers to a prediction or a description."""
    model = request.path.rpartition("/")[2]
    form = await request.post()
    if "describe" in form:
        return web.json_response({"model": model, "version": VERSIONS[model]})
    upload = form["upload"]
    assert isinstance(upload, web.FileField)
    return png(localise(model, upload.file.read(), photo() if model == "constrained" else None))


def write_key(path: Path, key: str) -> None:
    """A key file as TorchServe writes it."""
    inference = {"key": key, "expiration time": "2026-11-22T19:49:33.092760291Z"}
    path.write_text(json.dumps({"management": {"key": "m"}, "inference": inference, "API": {"key": "a"}}))


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (503, NO_WORKER, Unavailable, "no worker"),
        (500, DEAD_WORKER, Unavailable, "Worker died"),
        (404, {"code": 404, "type": "ModelNotFoundException"}, Unavailable, "no such model"),
        (400, REFUSED_KEY, Unavailable, "refuses the key"),
        (401, {}, Unavailable, "refuses the key"),
        (429, {}, Unavailable, "429"),
        (413, {}, Broken, "max_request_size"),
        (400, {"code": 400, "type": "BadRequestException"}, Broken, "BadRequest"),
        (302, {}, Broken, "302"),
        (200, {"mask": []}, Broken, "instead of image/png"),
        (500, {"error": {"kind": "broken", "message": "KeyError: 'x'"}}, Broken, "KeyError"),
        (422, {"error": {"kind": "rejected", "code": "corrupt", "message": "cannot be decoded"}}, Rejected, "decoded"),
    ],
)
async def test_each_answer_has_its_kind_of_error(status: int, body: object, kind: type[Exception], text: str) -> None:
    async with models_on(always(status, body)) as models:
        with pytest.raises(kind, match=text):
            await models.unconstrained(photo())


async def test_a_png_that_is_not_a_mask_of_ours_is_broken() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return png(b"\x89PNG\r\n\x1a\n and then noise")

    async with models_on(handle) as models:
        with pytest.raises(Broken, match="unconstrained"):
            await models.unconstrained(photo())


async def test_a_server_that_hangs_up_is_unavailable() -> None:
    async def handle(request: web.Request) -> web.Response:
        return hang_up(request)

    async with models_on(handle) as models:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await models.unconstrained(photo())


async def test_an_answer_that_ends_early_is_unavailable() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "image/png", "content-length": "1000"})
        await response.prepare(request)
        await response.write(b"\x89PNG")
        return hang_up(request)

    async with models_on(handle) as models:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await models.unconstrained(photo())


async def test_nobody_listening_is_unavailable() -> None:
    async with serving(judge) as url:
        pass
    models = TorchServeModels(url, limits=ONCE)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await models.ready()
    with pytest.raises(Unavailable, match="cannot be reached"):
        await models.unconstrained(photo())
    await models.close()


async def test_a_server_that_hangs_costs_no_more_than_the_deadline_and_is_not_asked_again() -> None:
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        await asyncio.Event().wait()
        raise AssertionError

    limits = Limits(timeout_s=0.2, retry_share=1.0)
    async with models_on(handle, limits=limits) as models:
        with pytest.raises(Unavailable, match="before the deadline"):
            await models.unconstrained(photo())
    assert len(asked) == 1


async def test_waiting_for_a_free_place_ends_with_the_deadline_too() -> None:
    release = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await release.wait()
        return await judge(request)

    async with serving(handle) as url:
        patient = TorchServeModels(url, limits=Limits(timeout_s=0.3, in_flight=1, retry_share=0.0))
        first = asyncio.create_task(patient.unconstrained(photo()))
        second = asyncio.create_task(patient.unconstrained(photo()))
        done = await asyncio.gather(first, second, return_exceptions=True)
        release.set()
        await patient.close()
    assert all(isinstance(error, Unavailable) for error in done)


async def test_no_more_than_the_limit_are_in_flight() -> None:
    now, most = 0, 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        answer = await judge(request)
        now -= 1
        return answer

    limits = Limits(timeout_s=20, in_flight=3, retry_share=0.0)
    async with models_on(handle, limits=limits) as models:
        await asyncio.gather(*(models.unconstrained(photo()) for _ in range(12)))
    assert most <= 3


async def test_a_passing_failure_is_retried_and_counted() -> None:
    answers, retried = [503, 200], []

    async def handle(request: web.Request) -> web.Response:
        return await judge(request) if answers.pop(0) == 200 else web.json_response(NO_WORKER, status=503)

    watch = Watch(on_retry=lambda: retried.append(1))
    async with models_on(handle, limits=Limits(timeout_s=20, retry_share=0.1), watch=watch) as models:
        found = await models.unconstrained(photo())
    assert found.model.version == VERSIONS["unconstrained"]
    assert retried == [1]


async def test_an_outage_is_not_doubled_by_retries() -> None:
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response(NO_WORKER, status=503)

    async with models_on(handle, limits=Limits(timeout_s=20, retry_share=0.1, breaker_failures=100)) as models:
        for _ in range(20):
            with pytest.raises(Unavailable):
                await models.unconstrained(photo())
    assert len(asked) <= 20 * 1.1 + 1


@pytest.mark.parametrize("status", [422, 500])
async def test_an_answer_about_the_image_is_not_retried(status: int) -> None:
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        kind = {422: "rejected", 500: "broken"}[status]
        return web.json_response({"error": {"kind": kind, "code": "corrupt", "message": "x"}}, status=status)

    async with models_on(handle, limits=Limits(timeout_s=20, retry_share=1.0)) as models:
        with pytest.raises((Rejected, Broken)):
            await models.unconstrained(photo())
    assert len(asked) == 1


async def test_failures_in_a_row_open_the_circuit_and_a_probe_closes_it() -> None:
    now, up, asked = 0.0, False, []
    circuits: list[Circuit] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return await judge(request) if up else web.json_response(NO_WORKER, status=503)

    limits = Limits(timeout_s=20, retry_share=0.0, breaker_failures=2, breaker_open_s=5.0)
    watch = Watch(on_circuit=circuits.append)
    async with models_on(handle, limits=limits, watch=watch, clock=lambda: now) as models:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await models.unconstrained(photo())
        with pytest.raises(Unavailable, match="not asked") as refused:
            await models.unconstrained(photo())
        assert refused.value.retry_after_s == pytest.approx(5.0)
        assert len(asked) == 2
        now, up = 5.0, True
        await models.unconstrained(photo())
        assert models.breaker.circuit is Circuit.CLOSED
    assert circuits == [Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED]


@pytest.mark.parametrize("refusal", [(400, REFUSED_KEY), (401, {}), (403, {})], ids=["torchserve", "401", "403"])
async def test_a_new_key_is_read_from_the_key_file_when_the_old_one_expired(
    tmp_path: Path, refusal: tuple[int, object]
) -> None:
    valid = "first"

    async def handle(request: web.Request) -> web.Response:
        if request.headers.get("authorization") != f"Bearer {valid}":
            return web.json_response(refusal[1], status=refusal[0])
        return await judge(request)

    key_file = tmp_path / "key_file.json"
    write_key(key_file, "first")
    # A circuit that opens at the first failure shows that an expired key is none.
    limits = Limits(timeout_s=20, retry_share=0.0, breaker_failures=1)
    async with models_on(handle, limits=limits, key_file=key_file) as models:
        await models.unconstrained(photo())
        valid = "second"
        write_key(key_file, "second")
        await asyncio.gather(*(models.unconstrained(photo()) for _ in range(6)))
        assert models.breaker.circuit is Circuit.CLOSED


async def test_a_key_that_stays_refused_is_unavailable_and_is_never_printed(tmp_path: Path) -> None:
    key_file = tmp_path / "key_file.json"
    write_key(key_file, "hush-hush")
    async with models_on(always(400, REFUSED_KEY), key_file=key_file) as models:
        with pytest.raises(Unavailable, match="KEY_FILE") as refused:
            await models.unconstrained(photo())
    assert "hush" not in str(refused.value)


async def test_a_missing_key_file_is_unavailable_and_named(tmp_path: Path) -> None:
    async with models_on(judge, key_file=tmp_path / "key_file.json") as models:
        with pytest.raises(Unavailable, match=r"key_file\.json"):
            await models.unconstrained(photo())


async def test_versions_are_asked_for_once_by_everybody_and_again_after_their_time() -> None:
    now, asked = 0.0, []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return await judge(request)

    async with models_on(handle, clock=lambda: now, versions_ttl_s=5.0) as models:
        everybody = await asyncio.gather(*(models.versions() for _ in range(10)))
        assert {tuple((v.name, v.version) for v in versions) for versions in everybody} == {tuple(VERSIONS.items())}
        assert len(asked) == 2
        now = 4.9
        await models.versions()
        assert len(asked) == 2
        now = 5.0
        await models.versions()
        assert len(asked) == 4


async def test_a_promoted_model_shows_in_the_versions_as_soon_as_it_has_answered() -> None:
    promoted = {"model": "unconstrained", "version": "3.0.0+cccccccccccc", "score": 0.1, "qes": 1.0, "seconds": 0.0}

    async def handle(request: web.Request) -> web.Response:
        if "describe" in await request.post():
            return await judge(request)
        return png(png_of(Image.new("L", (8, 8)), promoted))

    async with models_on(handle, clock=lambda: 0.0) as models:
        assert (await models.versions())[1].version == VERSIONS["unconstrained"]
        await models.unconstrained(photo())
        assert (await models.versions())[1].version == "3.0.0+cccccccccccc"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"error": {"kind": "rejected", "code": "empty", "message": "no field upload"}}),
        (200, {"name": "constrained"}),
        (200, {"model": "unconstrained", "version": "1"}),
    ],
)
async def test_a_handler_that_cannot_say_its_version_is_broken(status: int, body: object) -> None:
    async with models_on(always(status, body)) as models:
        with pytest.raises(Broken, match="model constrained"):
            await models.versions()


async def test_versions_of_a_server_that_is_away_are_unavailable_for_all_who_ask() -> None:
    async with models_on(always(503, NO_WORKER)) as models:
        errors = await asyncio.gather(*(models.versions() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in errors)


async def test_one_who_stops_waiting_for_the_versions_takes_them_from_nobody() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        asked.set()
        await release.wait()
        return await judge(request)

    async with models_on(handle) as models:
        leaves, stays = asyncio.create_task(models.versions()), asyncio.create_task(models.versions())
        await asked.wait()
        leaves.cancel()
        release.set()
        assert len(await stays) == 2


async def test_a_server_with_an_unhealthy_worker_is_not_ready() -> None:
    async with models_on(always(500, {"status": "Unhealthy"})) as models:
        with pytest.raises(Unavailable, match="Unhealthy"):
            await models.ready()


async def test_a_healthy_server_without_our_models_is_not_ready() -> None:
    async def handle(request: web.Request) -> web.Response:
        if request.path == "/ping":
            return web.json_response({"status": "Healthy"})
        return web.json_response({"code": 404, "type": "ModelNotFoundException"}, status=404)

    async with models_on(handle) as models:
        with pytest.raises(Unavailable, match="no such model"):
            await models.ready()


async def test_the_homography_goes_along_as_nine_numbers_and_only_where_known() -> None:
    sent = []

    async def handle(request: web.Request) -> web.Response:
        sent.append((await request.post()).get("homography"))
        return png(localise("constrained", photo(), photo()))

    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    async with models_on(handle) as models:
        await models.constrained(photo(), photo(), identity)
        await models.constrained(photo(), photo(), None)
    assert json.loads(str(sent[0])) == list(identity)
    assert sent[1] is None
