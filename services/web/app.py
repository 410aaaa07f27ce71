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
from services.clients.feed import Arrivals
from services.clients.signins import Attempts
from services.core.errors import PentimentoError
from services.web import (
    account,
    auditing,
    dead_letters,
    evidence,
    export,
    live,
    login,
    login_oidc,
    originals,
    overview,
    people,
    picture_search,
    pictures,
    review,
    review_pages,
    rounds,
    search,
    status,
    tokens,
    upload_page,
    uploads,
    verdicts,
    webhook_pages,
    webhooks,
)
from services.web.access import address_of
from services.web.entering import Entrance
from services.web.gate import Gate
from services.web.identity import Gatekeeper
from services.web.limits import Limiter, subject_of
from services.web.measured import Measured
from services.web.openapi import describe
from services.web.parts import Options, Parts
from services.web.patience import Patience
from services.web.problems import PROBLEMS, Refused, answer, problem_of
from services.web.registrar import Registrar

STATIC = Path(__file__).with_name("static")


def create_app(parts: Parts, options: Options) -> FastAPI:
    """The app. Raises ValueError for a token that is too short."""
    sign_in = options.sign_in
    keeper = Gatekeeper(parts.database, options.token, sign_in, parts.now)
    patience = Patience(Attempts(parts.database, sign_in.attempts, sign_in.attempts_within), parts.now)
    entrance = Entrance(keeper, patience, parts.audit, sign_in)
    # The interactive docs load scripts from a CDN, which we never do; the OpenAPI document itself is served.
    app = FastAPI(
        title="Pentimento", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json", responses=PROBLEMS
    )
    app.state.answers = KeptAnswers(parts.database)
    app.include_router(verdicts.pages(parts.verdicts))
    app.include_router(verdicts.api(parts.verdicts))
    _overview(app, parts, options)
    _search(app, parts, options)
    app.include_router(evidence.pages(parts, options))
    app.include_router(evidence.api(parts, options))
    app.include_router(review_pages.router())
    app.include_router(pictures.router(parts, options))
    app.include_router(uploads.router(parts, options))
    app.include_router(originals.router(parts, options))
    app.include_router(upload_page.router(parts, options))
    desk = webhooks.desk_of(parts, options)
    app.include_router(webhooks.api(parts, desk))
    app.include_router(webhook_pages.router(parts, options, desk))
    app.include_router(status.router(parts))
    app.include_router(review.router(parts, options))
    app.include_router(login.router(parts, entrance))
    if sign_in.provider is not None:
        app.include_router(login_oidc.router(parts, entrance, sign_in.provider))
    registrar = Registrar(parts, keeper.sessions, sign_in.public_url)
    app.include_router(account.pages(registrar, entrance))
    app.include_router(account.api(registrar))
    for part in (people, tokens):
        app.include_router(part.pages(registrar))
        app.include_router(part.api(registrar))
    app.include_router(auditing.pages(parts))
    app.include_router(auditing.api(parts))
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for kind in (PentimentoError, Refused, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _answered)
    # From the inside out: people are known inside of the gate, addresses are counted around it.
    limits, metrics = options.limits, parts.telemetry.metrics
    app.add_middleware(Limiter, by="person", who=subject_of, per_s=limits.per_person, settings=limits, metrics=metrics)
    app.add_middleware(Gate, keeper=keeper, patience=patience, audit=parts.audit)
    app.add_middleware(
        Limiter, by="address", who=address_of, per_s=limits.per_address, settings=limits, metrics=metrics
    )
    app.add_middleware(Measured, metrics=metrics)  # the last added is the outermost
    describe(app)
    return app


def _overview(app: FastAPI, parts: Parts, options: Options) -> None:
    feed = live.Feed(Arrivals(parts.database), most=options.live_connections)
    app.state.feed = feed  # whoever stops the server ends its streams first
    outlook, letters = overview.Outlook(parts, options), dead_letters.Letters(parts)
    app.include_router(live.router(feed))
    app.include_router(dead_letters.pages(letters))
    app.include_router(dead_letters.api(letters))
    app.include_router(rounds.router(parts))
    app.include_router(overview.pages(outlook))
    app.include_router(overview.api(outlook))


def _search(app: FastAPI, parts: Parts, options: Options) -> None:
    searching, by_picture = search.Searching(parts), picture_search.PictureSearch(parts, options)
    app.include_router(export.router(searching, parts.audit))
    app.include_router(picture_search.pages(by_picture))
    app.include_router(picture_search.api(by_picture))
    app.include_router(search.pages(searching))
    app.include_router(search.api(searching))


async def _answered(request: Request, error: Exception) -> Response:
    return answer(request, problem_of(error))
