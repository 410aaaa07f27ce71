"""The review API below `/api/v1/review`: the queue, cases, decisions, and how good they are.

In: the opened parts and options. Out: one router. Each file brings the routes of one concern.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from fastapi import APIRouter

from services.web.parts import Options, Parts
from services.web.review import cases, decisions, quality, queue
from services.web.review.desk import desk

CHANCE = random.SystemRandom()


def router(parts: Parts, options: Options, *, draw: Callable[[], float] = CHANCE.random) -> APIRouter:
    """All routes. `draw`: random, 0..1."""
    opened = desk(parts, options, draw=draw)
    routes = APIRouter(prefix="/api/v1/review", tags=["review"])
    for each in (queue, cases, decisions, quality):
        routes.include_router(each.router(opened))
    return routes
