"""Idempotency keys: a POST that is sent again with the same `Idempotency-Key` is done once.

In: a request with that header, and what it asks for. Out: the answer, the first time and every time (IETF draft
"The Idempotency-Key HTTP Header Field"): the same key with another request is 422, with one that is not done yet 409.
A key belongs to a person and a path, and is known for a day; only successes are kept. Two ways to use it: a router with
`route_class=OncePerKey`, or `once` where two equal requests differ in their bytes, as forms with files do.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from services.clients.answers import AnswerKey, GoAhead, InWork, KeptAnswer, KeptAnswers, OtherRequest
from services.core.errors import Unavailable
from services.web.access import person_of
from services.web.problems import Refused

log = structlog.get_logger()
HEADER = "idempotency-key"
KEEP_S = 24 * 3600.0
LEASE_S = 120.0  # of a request in work; longer than any of ours takes
KEPT_HEADERS = ("content-type", "location")

REPLAYED = {"idempotency-replayed": "true"}
"""Headers of an answer that was given before."""

PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Chosen by the client. The request is done once, and its answer repeated for a day.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ]
}
"""For `openapi_extra` of a route that calls `once`."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def once(request: Request, fingerprint: str, work: Callable[[], Awaitable[Response]]) -> Response:
    """What `work` answers, or what it answered to the same request before. Without a key: what it answers.

    Raises Refused: 400 for a header that is no key, 409 while the first request is in work, 422 for another request.
    """
    text = key_of(request)
    if text is None:
        return await work()
    key = AnswerKey(person_of(request).subject, request.url.path, text)
    answers: KeptAnswers = request.app.state.answers
    match await answers.begin(key, fingerprint, keep_s=KEEP_S, lease_s=LEASE_S):
        case KeptAnswer(status=status, headers=headers, body=body):
            return Response(body, status, {**headers, **REPLAYED})
        case InWork():
            raise Refused(409, "in_work", f"The first request with the key {key.key!r} is not done yet.")
        case OtherRequest():
            raise Refused(422, "key_reused", f"The key {key.key!r} was used for another request.")
        case GoAhead() as mine:
            return await _done(answers, mine, work)


def key_of(request: Request) -> str | None:
    """The key that a request names, without quotes. Raises Refused (400) for a header that is no key."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    key = text[1:-1] if len(text) > 1 and text.startswith('"') and text.endswith('"') else text
    if not _KEY.fullmatch(key):
        raise Refused(400, "invalid_key", "Idempotency-Key has 1 to 255 characters of ASCII, without spaces.")
    return key


def fingerprint_of(*parts: str | bytes | None) -> str:
    """One word for everything that makes two requests the same."""
    lengths = json.dumps([None if part is None else len(part) for part in parts])
    whole = hashlib.sha256(lengths.encode())
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part or b"")
    return whole.hexdigest()


class OncePerKey(APIRoute):
    """A route that is done once per key; two requests are the same where query, type and body are."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        given["openapi_extra"] = {**(given.get("openapi_extra") or {}), **PARAMETER}
        super().__init__(path, endpoint, **given)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            if request.method != "POST" or HEADER not in request.headers:
                return await handle(request)
            content_type = request.headers.get("content-type", "")
            asked = fingerprint_of(request.url.query, content_type, await request.body())
            return await once(request, asked, lambda: handle(request))

        return handled


async def _done(answers: KeptAnswers, mine: GoAhead, work: Callable[[], Awaitable[Response]]) -> Response:
    """Does the work and keeps its answer; gives the key back where there is none worth keeping."""
    kept = False
    try:
        response = await work()
        if 200 <= response.status_code < 300:
            kept = True
            await _keep(answers, mine, response)
        return response
    finally:
        if not kept:
            with suppress(Unavailable):  # its lease ends by itself
                await answers.give_back(mine)


async def _keep(answers: KeptAnswers, mine: GoAhead, response: Response) -> None:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    try:
        await answers.keep(mine, KeptAnswer(response.status_code, headers, bytes(response.body).decode()))
    except Unavailable as error:  # the client gets its answer all the same, and has no reason to ask again
        log.warning("answer_not_kept", route=mine.key.route, why=str(error))
