"""Forged requests: an unsafe request that comes with a cookie has to carry the token of its session, too.

In: a session's secret; a request's head and the beginning of its body. Out: the session's token, and the token that
was sent, in the header or in the field of a form. The token is derived from the cookie, which no other site can read,
so nothing has to be kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.types import Message, Receive

from services.web.current import FIELD, HEADER

PEEKED_BYTES = 65_536  # of a form's body: the field has to be within, wherever a script or `csrf_field` puts it

_PART = re.compile(rb'name="' + FIELD.encode() + rb'"\r\n(?:[^\r\n]+\r\n)*\r\n([\w-]{1,200})\r\n')


def token_for(secret: str) -> str:
    """The token of the session with this cookie."""
    return hmac.new(secret.encode(), b"pentimento csrf", hashlib.sha256).hexdigest()


def same(sent: str, token: str) -> bool:
    """Whether it is the token; takes the same time whatever was sent."""
    return hmac.compare_digest(sent.encode(), token.encode())


async def sent_token(request: Request, receive: Receive) -> tuple[str, Receive]:
    """The token that a request carries, empty where it has none, and the body for whoever reads it next."""
    header = request.headers.get(HEADER)
    if header is not None:
        return header.partition(",")[0].strip(), receive
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return "", receive
    messages = await _beginning(receive)
    start = b"".join(message.get("body", b"") for message in messages)[:PEEKED_BYTES]
    return (_in_part(start) if kind.startswith("multipart") else _in_query(start)), _again(messages, receive)


async def _beginning(receive: Receive) -> list[Message]:
    messages: list[Message] = []
    size = 0
    while size < PEEKED_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    return messages


def _again(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def replayed() -> Message:
        return next(waiting, None) or await receive()

    return replayed


def _in_part(start: bytes) -> str:
    found = _PART.search(start)
    return found.group(1).decode() if found else ""


def _in_query(start: bytes) -> str:
    fields = parse_qs(start.decode("utf-8", "replace"), max_num_fields=10_000)
    return fields.get(FIELD, [""])[0]
