"""A worker's health endpoint over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from services.health import HealthServer
from services.metrics import Metrics


async def all_well() -> dict[str, str | None]:
    return {"kafka": None, "postgres": None}


@asynccontextmanager
async def endpoint(
    *,
    alive: Callable[[], str | None] = lambda: None,
    ready: Callable[[], Awaitable[dict[str, str | None]]] = all_well,
    metrics: Metrics | None = None,
    ready_timeout_s: float = 10.0,
) -> AsyncIterator[httpx.AsyncClient]:
    registry = (metrics or Metrics()).registry
    server = HealthServer("127.0.0.1", 0, alive=alive, ready=ready, registry=registry, ready_timeout_s=ready_timeout_s)
    port = await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield client
    await server.stop()


async def test_a_live_worker_says_so() -> None:
    async with endpoint() as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"alive": True, "reason": None})


async def test_a_worker_that_makes_no_progress_says_why_it_should_be_restarted() -> None:
    async with endpoint(alive=lambda: "lag of 12 and nothing finished for 1200 s") as client:
        answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert "lag of 12" in answer.json()["reason"]


async def test_a_worker_with_all_its_parts_is_ready() -> None:
    async with endpoint() as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "parts": {"kafka": "ok", "postgres": "ok"}}


async def test_a_worker_without_a_part_names_it_and_is_not_ready() -> None:
    async def ready() -> dict[str, str | None]:
        return {"kafka": None, "models": "no worker"}

    async with endpoint(ready=ready) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "parts": {"kafka": "ok", "models": "no worker"}}


async def test_a_worker_that_is_behind_is_not_ready_but_for_whoever_lets_it_catch_up() -> None:
    parts: dict[str, str | None] = {"postgres": None, "index": "INDEX-STALE: an original has waited 75 s"}

    async def ready() -> dict[str, str | None]:
        return parts

    async with endpoint(ready=ready) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["parts"]["index"] == "INDEX-STALE: an original has waited 75 s"
        assert (await client.get("/readyz?stale=ok")).status_code == 200
        parts["postgres"] = "away"
        assert (await client.get("/readyz?stale=ok")).status_code == 503


async def test_a_part_that_never_answers_makes_the_worker_not_ready() -> None:
    async def ready() -> dict[str, str | None]:
        await asyncio.Event().wait()
        return {}

    async with endpoint(ready=ready, ready_timeout_s=0.05) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"] == {"readiness": "no answer within 0.05 s"}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("*/*", "text/plain"), ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text")],
)
async def test_metrics_are_served_in_the_format_that_prometheus_asks_for(accept: str, content_type: str) -> None:
    metrics = Metrics()
    metrics.verdicts.labels("manipulated", "constrained-spg").inc(3)
    async with endpoint(metrics=metrics) as client:
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert 'pentimento_verdicts_total{decision="manipulated",path="constrained-spg"} 3.0' in answer.text
    assert "process_resident_memory_bytes" in answer.text


async def test_any_other_path_is_not_found() -> None:
    async with endpoint() as client:
        assert (await client.get("/table/secret")).status_code == 404


async def test_a_stopped_endpoint_frees_its_port_and_may_be_stopped_twice() -> None:
    first = HealthServer("127.0.0.1", 0, alive=lambda: None, ready=all_well, registry=Metrics().registry)
    port = await first.start()
    second = HealthServer("127.0.0.1", port, alive=lambda: None, ready=all_well, registry=Metrics().registry)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await first.stop()
    await first.stop()
    assert await second.start() == port
    await second.stop()
