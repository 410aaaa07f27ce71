"""The web app: pages and API over verdicts, and a door for uploads.

In: the opened parts and a few options. Out: an ASGI app. Routes live in one file per concern; what every request has
in common (host, token, error envelope, headers) is in `gate.py`, how often somebody may ask in `limits.py`.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from services.clients.answers import KeptAnswers
from services.core.errors import PentimentoError
from services.web import login, pictures, status, uploads, verdicts, webhook_pages, webhooks
from services.web.auth import Gatekeeper
from services.web.gate import Gate
from services.web.limits import Limiter, address_of, subject_of
from services.web.openapi import describe
from services.web.parts import Options, Parts
from services.web.problems import PROBLEMS, Refused, answer, problem_of

STATIC = Path(__file__).with_name("static")


def create_app(parts: Parts, options: Options) -> FastAPI:
    """The app. Raises ValueError for a token that is too short."""
    keeper = Gatekeeper(options.token, parts.now)
    # The interactive docs load scripts from a CDN, which we never do; the OpenAPI document itself is served.
    app = FastAPI(
        title="Pentimento", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json", responses=PROBLEMS
    )
    app.state.answers = KeptAnswers(parts.database)
    app.include_router(verdicts.pages(parts.verdicts))
    app.include_router(verdicts.api(parts.verdicts))
    app.include_router(pictures.router(parts, options))
    app.include_router(uploads.router(parts, options))
    desk = webhooks.desk_of(parts, options)
    app.include_router(webhooks.api(parts, desk))
    app.include_router(webhook_pages.router(parts, options, desk))
    app.include_router(status.router(parts))
    app.include_router(login.router(keeper))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for kind in (PentimentoError, Refused, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answered)
    # From the inside out: people are known inside of the gate, addresses are counted around it.
    limits, metrics = options.limits, parts.telemetry.metrics
    app.add_middleware(Limiter, by="person", who=subject_of, per_s=limits.per_person, settings=limits, metrics=metrics)
    app.add_middleware(Gate, keeper=keeper)
    app.add_middleware(
        Limiter, by="address", who=address_of, per_s=limits.per_address, settings=limits, metrics=metrics
    )
    describe(app)
    return app


async def _answered(request: Request, error: Exception) -> Response:
    return answer(request, problem_of(error))
