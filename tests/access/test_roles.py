"""Every route of the app has a rule, and keeps it: with each role, and with none."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from services.core.access import Role
from services.web.access import AtLeast, at_least
from services.web.gate import OPEN
from tests.access.conftest import House

ANYBODY = {*OPEN, "/static"}
"""Routes that answer without a sign-in. A new one is added here and in `gate.py` by somebody who has thought of it."""

SIGNED_IN = {"/api/v1/openapi.json"}
"""Routes of the framework's own: whoever is signed in may have them."""


def rules(app: FastAPI) -> dict[tuple[str, str], Role | None]:
    """(method, path) of every route, and the least role that it asks for; None where it asks for none."""
    found: dict[tuple[str, str], Role | None] = {}
    for route in iter_route_contexts(app.routes):
        for method in sorted((getattr(route, "methods", None) or {"GET"}) - {"HEAD"}):
            found[method, str(route.path)] = _rule(getattr(route, "dependant", None))
    return found


def _rule(dependant: Dependant | None) -> Role | None:
    roles = [] if dependant is None else _asked(dependant)
    order = list(Role)
    return max(roles, key=order.index) if roles else None


def _asked(dependant: Dependant) -> list[Role]:
    own = [dependant.call.role] if isinstance(dependant.call, AtLeast) else []
    return own + [role for each in dependant.dependencies for role in _asked(each)]


async def asked(app: FastAPI, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Status and problem type of an answer, as soon as they are known: a stream without an end is not waited for."""
    told: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": b"{}", "more_body": False}

    status = 0

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            if status < 400:
                told.set_result((status, ""))
        elif not told.done():
            body = message.get("body", b"")
            told.set_result((status, json.loads(body).get("type", "") if body.startswith(b"{") else ""))

    every = {"host": "127.0.0.1", "content-type": "application/json", **headers}
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "root_path": "", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("10.0.0.9", 1),
        "headers": [(name.encode(), value.encode()) for name, value in every.items()], "state": {},
    }  # fmt: skip
    running = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
    await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
    answer = await told
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return answer


def test_every_route_has_a_rule(house: House) -> None:
    bare = {path for (_, path), rule in rules(house.app).items() if rule is None} - ANYBODY - SIGNED_IN
    assert bare == set(), "say who may: dependencies=[Depends(at_least(Role. ...))]"


def test_a_route_without_a_rule_is_found(house: House) -> None:
    house.app.add_api_route("/forgotten", lambda: None)
    assert rules(house.app)["GET", "/forgotten"] is None


async def test_every_route_keeps_its_rule(house: House) -> None:
    """A path's parameters are words that name nothing: whoever may ask hears 404, 409, 415 or 422, never a role."""
    headers = {role: await house.bearer(role) for role in Role}
    wrong = []
    for (method, route), rule in rules(house.app).items():
        path = re.sub(r"\{(kind)[^}]*\}", "upload", route)
        path = re.sub(r"\{[a-z_]*id\}", "9007199254740991", re.sub(r"\{(?!\w*id\})[^}]*\}", "nothing", path))
        if route in ANYBODY:
            continue
        status, kind = await asked(house.app, method, path, {})
        if (status, kind) != (401, "urn:pentimento:problem:token_required"):
            wrong.append(f"{method} {path} as nobody: {status}")
        for role in Role:
            status, kind = await asked(house.app, method, path, headers[role])
            refused = status == 403 and kind == "urn:pentimento:problem:role_required"
            if refused == role.covers(rule or Role.VIEWER) or status == 401:
                wrong.append(f"{method} {path} as {role.value}: {status} {kind}")
    assert wrong == []


@pytest.mark.parametrize("path", ["/healthz", "/login", "/enter", "/static/pentimento.css"])
async def test_the_way_in_is_open(house: House, path: str) -> None:
    assert (await asked(house.app, "GET", path, {}))[0] == 200


@pytest.mark.parametrize("role", Role)
def test_the_rule_of_a_dependency_can_be_read(role: Role) -> None:
    assert at_least(role).role is role
