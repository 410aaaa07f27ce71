"""Rate limits: by address around the gate, by person inside of it, and not for this machine itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.metrics import Metrics
from services.settings import LimitSettings
from services.web.access import address_of
from services.web.app import create_app
from services.web.limits import Limiter
from services.web.parts import Parts
from tests.web.conftest import OPTIONS, TOKEN


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def served(
    clock: Clock, metrics: Metrics | None = None, *, per_s: float = 2, loopback: bool = False, most: int = 10
) -> Limiter:
    """A limit of two requests a second, four at once."""
    app = Starlette(routes=[Route(path, hello) for path in ("/", "/api/v1/things", "/healthz", "/static/a.css")])
    settings = LimitSettings(burst_s=2, loopback=loopback)
    return Limiter(
        app,
        by="address",
        who=address_of,
        per_s=per_s,
        settings=settings,
        metrics=metrics or Metrics(),
        clock=clock,
        most=most,
    )


def client(app: Limiter, address: str = "203.0.113.7") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 5)), base_url="http://here")


async def test_a_burst_is_served_and_then_one_has_to_wait(clock: Clock) -> None:
    metrics = Metrics()
    async with client(served(clock, metrics)) as asking:
        answers = [await asking.get("/api/v1/things") for _ in range(6)]
        assert [each.status_code for each in answers] == [200] * 4 + [429] * 2
        assert [each.headers["ratelimit-remaining"] for each in answers] == ["3", "2", "1", "0", "0", "0"]
        assert {each.headers["ratelimit-limit"] for each in answers} == {"4"}
        refused = answers[-1]
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["ratelimit-reset"] == "2"
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:pentimento:problem:too_many_requests"
        assert "default-src 'none'" in refused.headers["content-security-policy"]
        clock.now_s += 1
        later = [(await asking.get("/api/v1/things")).status_code for _ in range(3)]
        assert later == [200, 200, 429]
    value = metrics.registry.get_sample_value("pentimento_limited_requests_total", {"by": "address"})
    assert value == 3


async def test_everybody_has_a_bucket_of_their_own(clock: Clock) -> None:
    app = served(clock)
    async with client(app) as one, client(app, "203.0.113.8") as other:
        assert [(await one.get("/")).status_code for _ in range(5)][-1] == 429
        assert (await other.get("/")).status_code == 200


async def test_a_person_is_told_by_a_page(clock: Clock) -> None:
    async with client(served(clock)) as asking:
        for _ in range(4):
            await asking.get("/")
        refused = await asking.get("/", headers={"accept": "text/html"})
        assert refused.status_code == 429
        assert "<h1" in refused.text


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_this_machine_itself_is_not_limited_unless_it_is_asked_for(clock: Clock, address: str) -> None:
    async with client(served(clock), address) as asking:
        answers = [await asking.get("/") for _ in range(50)]
        assert {each.status_code for each in answers} == {200}
        assert "ratelimit-limit" not in answers[-1].headers
    async with client(served(clock, loopback=True), address) as asking:
        assert [(await asking.get("/")).status_code for _ in range(5)][-1] == 429


@pytest.mark.parametrize("path", ["/healthz", "/static/a.css"])
async def test_probes_and_static_files_are_not_counted(clock: Clock, path: str) -> None:
    async with client(served(clock)) as asking:
        assert {(await asking.get(path)).status_code for _ in range(20)} == {200}


async def test_zero_sets_no_limit(clock: Clock) -> None:
    async with client(served(clock, per_s=0)) as asking:
        assert {(await asking.get("/")).status_code for _ in range(50)} == {200}


def from_address(app: FastAPI, address: str, token: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, client=(address, 5))
    return httpx.AsyncClient(transport=transport, base_url="http://here", headers={"authorization": f"Bearer {token}"})


async def test_guessing_tokens_is_limited_by_address(bare: Parts) -> None:
    app = create_app(bare, replace(OPTIONS, token=TOKEN, limits=LimitSettings(per_address=0.01, burst_s=300)))
    async with from_address(app, "203.0.113.7", "wrong") as guessing, from_address(app, "203.0.113.8", TOKEN) as other:
        assert [(await guessing.get("/api/v1/verdicts")).status_code for _ in range(4)] == [401, 401, 401, 429]
        assert (await other.get("/api/v1/verdicts")).status_code == 200


async def test_a_token_is_limited_from_whichever_address_it_is_used(bare: Parts) -> None:
    limits = LimitSettings(per_address=0.5, per_person=0.01, burst_s=300)
    app = create_app(bare, replace(OPTIONS, token=TOKEN, limits=limits))
    async with from_address(app, "203.0.113.7", TOKEN) as one, from_address(app, "203.0.113.8", TOKEN) as other:
        first = await one.get("/api/v1/verdicts")
        assert first.status_code == 200
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("3", "2")
        for _ in range(2):
            assert (await other.get("/api/v1/verdicts")).status_code == 200
        refused = await other.get("/api/v1/verdicts")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "100")
        assert "this person" in refused.json()["detail"]


async def test_those_who_asked_longest_ago_are_forgotten_where_there_are_too_many(clock: Clock) -> None:
    app = served(clock, most=3)
    async with client(app) as first, client(app, "203.0.113.8") as second:
        assert [(await first.get("/")).status_code for _ in range(5)][-1] == 429
        assert (await second.get("/")).headers["ratelimit-remaining"] == "3"
        for number in (9, 10):
            async with client(app, f"203.0.113.{number}") as other:
                await other.get("/")
        assert (await second.get("/")).headers["ratelimit-remaining"] == "2"
        assert (await first.get("/")).headers["ratelimit-remaining"] == "3"
