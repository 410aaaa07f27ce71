"""Pages of lists in the API, all alike: `limit` and `cursor` in, `next_cursor` and `next` out.

In: the place after the last entry of a page. Out: an opaque, URL-safe word, and the place again. Paging is by key, so
that a page stays the same while new entries arrive.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import Query
from pydantic import BaseModel
from starlette.requests import Request

from services.web.problems import Refused

MOST = 200
LARGEST_ID = 2**63 - 1  # of a row: what PostgreSQL's bigint holds
T = TypeVar("T")

Limit = Annotated[int, Query(ge=1, le=MOST, description="Entries of one page at most.")]
Place = Annotated[str | None, Query(max_length=1000, description="`next_cursor` of the page before.")]


class Page(BaseModel):
    """A page of a list. `next_cursor`, and `next`, the address of the next page, are absent on the last one."""

    next_cursor: str | None = None
    next: str | None = None


def write_place(*values: str | float) -> str:
    """A place as a URL-safe word."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def read_place(text: str, made: Callable[..., T]) -> T:
    """What `made` makes of the values that `write_place` was given. Raises Refused (422) for anything else."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not isinstance(values, list) or any("\x00" in str(value) for value in values):
            raise ValueError("no place")
        return made(*values)
    except (binascii.Error, TypeError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise Refused(422, "invalid_cursor", "The cursor is not one of ours: start again without it.") from error


def number(value: object) -> int:
    """A place that is a row's number. Raises ValueError for what no row has."""
    if not isinstance(value, int) or not 0 <= value <= LARGEST_ID:
        raise ValueError("no number of a row")
    return value


def moment_and_id(moment: str, name: str) -> tuple[datetime, str]:
    """A place that is when a row was made, and its id. Raises ValueError or TypeError."""
    at = datetime.fromisoformat(moment)
    if at.tzinfo is None:
        raise ValueError("no time with a zone")
    return at, str(name)


def cut(found: Sequence[T], limit: int, place: Callable[[T], str]) -> tuple[list[T], str | None]:
    """A page of at most `limit` from one more than that, and the cursor of the next; None where there is none."""
    more = len(found) > limit
    return list(found[:limit]), place(found[limit - 1]) if more else None


def following(request: Request, cursor: str | None) -> str | None:
    """The address of the next page: this one's, with another cursor."""
    if cursor is None:
        return None
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f"{request.url.path}?{urlencode([*query, ('cursor', cursor)])}"
