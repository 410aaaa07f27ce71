"""The error envelope: whatever goes wrong becomes one answer of one shape.

In: an exception. Out: `application/problem+json` (RFC 9457) for programs, the same facts as a page for people. Nothing
of a traceback leaves the process; an unexpected error is logged with its trace and answered with 500.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.core.errors import Rejected, Unavailable
from services.web.pages import render

log = structlog.get_logger()

STATUS_OF_CODE = {"too_large": 413, "object_missing": 404}
TITLES = {
    400: "Not understood",
    401: "Token required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "Not usable",
    429: "Too many requests",
    500: "Our fault",
    503: "Away for now",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What an answer says about an error. `code` is a stable slug; `detail` is for a person."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    errors: tuple[dict[str, Any], ...] = ()

    @property
    def title(self) -> str:
        return TITLES.get(self.status, "Error")


class ProblemShown(BaseModel):
    """How a problem looks to a program (RFC 9457)."""

    type: Annotated[str, Field(description="`urn:pentimento:problem:` and a stable code.")]
    title: str
    status: int
    detail: Annotated[str, Field(description="For a person.")]
    instance: Annotated[str, Field(description="The path that was asked for.")]
    errors: Annotated[list[dict[str, str]], Field(description="What does not fit, and where (422).")] = []


PROBLEM_SCHEMA = "Problem"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route declares that may go wrong, for its `responses=`."""
    schema = {"schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}}
    return {
        status: {"description": TITLES[status], "content": {"application/problem+json": schema}} for status in statuses
    }


PROBLEMS = problems(401, 403, 404, 422, 429, 503)
"""What may go wrong with any route; every route of the app has it. Others: `responses=problems(409)`."""


class Refused(Exception):
    """A request that is answered with a problem, raised by our own endpoints."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(status, code, detail)


def problem_of(error: Exception) -> Problem:
    """The problem that an exception is answered with; logs what nobody expected."""
    match error:
        case Refused(problem=problem):
            return problem
        case Rejected(code=code, message=message):
            return Problem(STATUS_OF_CODE.get(code, 422), code, message)
        case Unavailable(dependency=dependency, retry_after_s=seconds):
            log.warning("unavailable", dependency=dependency, reason=str(error))
            wait = {"retry-after": str(math.ceil(seconds or 5))}
            return Problem(503, "unavailable", f"{dependency} does not answer. Try again in a moment.", wait)
        case HTTPException(status_code=status, detail=detail):
            return Problem(status, f"http_{status}", str(detail), dict(error.headers or {}))
        case RequestValidationError():
            faults = tuple({"where": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors())
            return Problem(422, "invalid_request", "; ".join(f"{f['where']}: {f['what']}" for f in faults), {}, faults)
        case _:
            log.error("failed", exc_info=error)
            return Problem(500, "broken", "Something unexpected happened; the log has the details.")


def answer(request: Request, problem: Problem) -> Response:
    """The problem as a page where a person asked for one, else as problem+json."""
    if wants_page(request):
        return render("problem.html", {"problem": problem}, status=problem.status, headers=problem.headers)
    body: dict[str, Any] = {
        "type": f"urn:pentimento:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.url.path,
    }
    if problem.errors:
        body["errors"] = list(problem.errors)
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Whether a browser shows the answer to a person."""
    programs = request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics", "/pictures/"))
    return not programs and "text/html" in request.headers.get("accept", "")
