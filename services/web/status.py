"""Is the web process alive, can it do its work, and what do its metrics say.

In: the parts. Out: `/healthz`, `/readyz` (in the words of the work: verdicts, uploads, pictures) and `/metrics`.
The probes tell no address and no error text; the log does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import APIRouter, Depends
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.clients.cases import VerdictFilter
from services.core import topology
from services.core.access import Role
from services.core.errors import PentimentoError
from services.web.access import at_least
from services.web.parts import Parts

log = structlog.get_logger()
READY_TIMEOUT_S = 8.0
INTAKE = topology.GROUPS["intake"]


def router(parts: Parts) -> APIRouter:
    """The three routes."""
    routes = APIRouter()

    @routes.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, bool]:
        return {"alive": True}

    @routes.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        checks: dict[str, Callable[[], Awaitable[Any]]] = {
            "verdicts": lambda: parts.verdicts.find(VerdictFilter(), limit=1),
            "uploads": lambda: parts.reader.lag(INTAKE.consumer_group, INTAKE.reads),
            "pictures": lambda: parts.objects.exists("readyz"),
        }
        found = await asyncio.gather(*(_check(name, check) for name, check in checks.items()))
        ready = all(state == "ok" for state in found)
        body = {"ready": ready, "parts": dict(zip(checks, found, strict=True))}
        return JSONResponse(body, 200 if ready else 503)

    @routes.get("/metrics", include_in_schema=False, dependencies=[Depends(at_least(Role.ADMIN))])
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(parts.telemetry.metrics.registry), headers={"content-type": content_type})

    return routes


async def _check(part: str, check: Callable[[], Awaitable[Any]]) -> str:
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await check()
    except (PentimentoError, TimeoutError) as error:
        log.warning("not_ready", part=part, reason=str(error) or type(error).__name__)
        return "away"
    return "ok"
