"""The web app: pages and API over verdicts, and a door for uploads.

In: the opened parts and a few options. Out: an ASGI app. Routes live in one file per concern; what every request has
in common (host, token, error envelope, headers) is in `gate.py`.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from services.clients.signins import Attempts
from services.core.errors import PentimentoError
from services.web import (
    account,
    auditing,
    login,
    login_oidc,
    people,
    pictures,
    review,
    status,
    tokens,
    uploads,
    verdicts,
)
from services.web.entering import Entrance
from services.web.gate import Gate
from services.web.identity import Gatekeeper
from services.web.parts import Options, Parts
from services.web.patience import Patience
from services.web.problems import Refused, answer, problem_of
from services.web.registrar import Registrar

STATIC = Path(__file__).with_name("static")


def create_app(parts: Parts, options: Options) -> FastAPI:
    """The app. Raises ValueError for a token that is too short."""
    sign_in = options.sign_in
    keeper = Gatekeeper(parts.database, options.token, sign_in, parts.now)
    patience = Patience(Attempts(parts.database, sign_in.attempts, sign_in.attempts_within), parts.now)
    entrance = Entrance(keeper, patience, parts.audit, sign_in)
    # The interactive docs load scripts from a CDN, which we never do; the OpenAPI document itself is served.
    app = FastAPI(title="Pentimento", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    app.include_router(verdicts.pages(parts.verdicts))
    app.include_router(verdicts.api(parts.verdicts))
    app.include_router(pictures.router(parts, options))
    app.include_router(uploads.router(parts, options))
    app.include_router(status.router(parts))
    app.include_router(review.router(parts, options))
    app.include_router(login.router(parts, entrance))
    if sign_in.provider is not None:
        app.include_router(login_oidc.router(parts, entrance, sign_in.provider))
    registrar = Registrar(parts, keeper.sessions)
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
    app.add_middleware(Gate, keeper=keeper, patience=patience, audit=parts.audit)
    return app


async def _answered(request: Request, error: Exception) -> Response:
    return answer(request, problem_of(error))
