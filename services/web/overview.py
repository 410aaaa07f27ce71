"""The overview: what comes in, how the parts are, what serves, what failed and what was learned. Each has a JSON twin.

In: the parts. Out: `/overview`, which shows at once what is quick to know and lets the rest follow piece by piece, so
that a part that is away costs its own piece and not the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.clients.activity import Activity, By
from services.clients.feed import Arrivals
from services.clients.library_state import Library, LibraryState
from services.clients.promotions import Promotions, Releases
from services.clients.rounds import Rounds
from services.clients.shadows import Shadows
from services.core.access import Person, Role
from services.core.errors import PentimentoError
from services.core.events import Decision
from services.core.series import STEPS, Every, Series, columns, series
from services.web.access import Who, at_least, seen
from services.web.kept import Kept
from services.web.pages import DECISIONS, PATHS, render
from services.web.paging import Limit, Place, cut, following, number, read_place, write_place
from services.web.parts import Options, Parts
from services.web.parts_state import PartsState, measure

PARTS_S, LIBRARY_S = 5.0, 60.0
REMEMBERED = 50  # sets of tenants whose libraries are kept in mind
SHOWN = 20  # rounds, promotions
MOST_COLUMNS = 24 * 31
MODELS = ("constrained", "unconstrained")
VIEWERS = [Depends(at_least(Role.VIEWER))]

Tenant = Annotated[str | None, Query(max_length=100, description="Only this tenant's.")]
Hours = Annotated[int, Query(ge=1, le=24 * 366, description="How far back.")]


@dataclass(frozen=True, slots=True)
class Spans:
    """A choice of time that the page offers."""

    label: str
    hours: int
    every: Every


SPANS = (Spans("24 hours", 24, "hour"), Spans("7 days", 168, "hour"), Spans("90 days", 2160, "day"))
KINDS: dict[By, tuple[str, ...]] = {
    "decision": tuple(decision.value for decision in Decision),
    "path": tuple(path.value for path in PATHS),
    "tenant": (),
}
LABELS: dict[By, dict[str, str]] = {
    "decision": {decision.value: label for decision, label in DECISIONS.items()},
    "path": {path.value: label for path, label in PATHS.items()},
    "tenant": {},
}


class Outlook:
    """The facts, measured now and then for everybody together."""

    def __init__(self, parts: Parts, options: Options) -> None:
        self._parts = parts
        self._activity = Activity(parts.database)
        self._library = Library(parts.database)
        self._libraries: dict[frozenset[str] | None, Kept[LibraryState]] = {}
        self.arrivals = Arrivals(parts.database)
        self.state = Kept(lambda: measure(parts, options), ttl_s=PARTS_S)
        self.rounds = Rounds(parts.database)
        self.shadows = Shadows(parts.database)

    async def library(self, tenants: frozenset[str] | None) -> LibraryState:
        """What the index holds of these tenants."""
        if tenants not in self._libraries:
            if len(self._libraries) >= REMEMBERED:
                self._libraries.clear()
            self._libraries[tenants] = Kept(lambda: self._library.state(tenants), ttl_s=LIBRARY_S)
        return await self._libraries[tenants].get()

    async def over_time(self, *, by: By, hours: int, every: Every, tenants: frozenset[str] | None) -> Series:
        """Verdicts by hour or day up to now."""
        now = self._parts.now()
        count = hours if every == "hour" else -(-hours // 24)
        starts = columns(now, every=every, count=min(count, MOST_COLUMNS))
        counted = await self._activity.over_time(by=by, starts=starts, each=STEPS[every], tenants=tenants)
        return series([(each.start, each.kind, each.verdicts) for each in counted], starts, KINDS[by])

    async def models(self) -> dict[str, Any]:
        """What serves now, and what was promoted and rolled back, the newest first."""
        state = await self.state.get()
        promotions = Promotions(self._parts.database)
        history = [each for model in MODELS for each in await promotions.history(model)]
        releases = await Releases(self._parts.database).find()
        return {
            "serving": [model.model_dump() for model in state.models],
            "policy_version": state.policy_version,
            "promotions": [
                asdict(each) | {"begun_at": each.begun_at.isoformat()}
                for each in sorted(history, key=lambda each: each.id, reverse=True)[:SHOWN]
            ],
            "known": [asdict(release) for release in releases],
        }


def of_person(person: Person, tenant: str | None) -> frozenset[str] | None:
    """The tenants that a person asks about: one that they may see, or all that they may. Raises Refused (404)."""
    return frozenset((seen(person, tenant),)) if tenant else person.tenants


def pages(outlook: Outlook) -> APIRouter:
    """The page and the pieces that it fetches."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False, dependencies=VIEWERS)

    @routes.get("/overview")
    async def overview(person: Who, tenant: Tenant = None) -> HTMLResponse:
        of_person(person, tenant)
        newest, _ = await outlook.arrivals.newest()
        values = {"spans": SPANS, "tenant": tenant or None, "newest": newest, "admin": person.may(Role.ADMIN)}
        return render("overview.html", values)

    @routes.get("/overview/parts")
    async def parts_piece() -> HTMLResponse:
        return render("overview_parts.html", {"state": await outlook.state.get()})

    @routes.get("/overview/models")
    async def models_piece() -> HTMLResponse:
        return await _piece("overview_models.html", outlook.models, "models")

    @routes.get("/overview/library")
    async def library_piece(person: Who, tenant: Tenant = None) -> HTMLResponse:
        tenants = of_person(person, tenant)
        return await _piece("overview_library.html", lambda: outlook.library(tenants), "library")

    @routes.get("/overview/learning")
    async def learning_piece() -> HTMLResponse:
        async def learned() -> dict[str, Any]:
            return {"rounds": await outlook.rounds.newest(SHOWN), "shadows": await outlook.shadows.agreement()}

        return await _piece("overview_learning.html", learned, "learned")

    return routes


def api(outlook: Outlook) -> APIRouter:
    """Their JSON twins."""
    routes = APIRouter(prefix="/api/v1/overview", dependencies=VIEWERS)

    @routes.get("/verdicts")
    async def over_time(
        person: Who, by: By = "decision", hours: Hours = 24, every: Every = "hour", tenant: Tenant = None
    ) -> dict[str, Any]:
        """Verdicts over time: one number for each kind and hour or day, the newest revision of each upload."""
        found = await outlook.over_time(by=by, hours=hours, every=every, tenants=of_person(person, tenant))
        return {
            "every": every,
            "starts": [start.isoformat() for start in found.starts],
            "kinds": [
                {"name": name, "label": LABELS[by].get(name, name), "verdicts": row}
                for name, row in found.values.items()
            ],
            "total": found.total,
        }

    @routes.get("/parts")
    async def parts_state() -> dict[str, Any]:
        """Which parts work, how many processes each group has, and what waits for them."""
        return _state(await outlook.state.get())

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        """What serves, what is known, and what was promoted or rolled back."""
        return await outlook.models()

    @routes.get("/library")
    async def library(person: Who, tenant: Tenant = None) -> dict[str, Any]:
        """Originals by source, stop lists, visual words and embedders."""
        state = await outlook.library(of_person(person, tenant))
        return {"originals": state.originals, **_dated(asdict(state))}

    @routes.get("/rounds")
    async def rounds(request: Request, limit: Limit = SHOWN, cursor: Place = None) -> dict[str, Any]:
        """Rounds of the learning loop, the newest first."""
        before = None if cursor is None else read_place(cursor, number)
        found = await outlook.rounds.newest(limit + 1, before=before)
        shown, place = cut(found, limit, lambda last: write_place(last.id))
        body: dict[str, Any] = {"rounds": [each.as_json() for each in shown]}
        return body | ({} if place is None else {"next_cursor": place, "next": following(request, place)})

    @routes.get("/shadows")
    async def shadows() -> dict[str, Any]:
        """How versions that do not serve agree with those that do."""
        return {"shadows": [asdict(each) for each in await outlook.shadows.agreement()]}

    return routes


async def _piece(template: str, ask: Callable[[], Awaitable[Any]], name: str) -> HTMLResponse:
    """A piece of the page, or one line that says that it is away."""
    try:
        return render(template, {name: await ask()})
    except PentimentoError:
        return render("overview_away.html", {"what": name})


def _state(state: PartsState) -> dict[str, Any]:
    return {"works": state.works, **_dated(asdict(state)), "models": [model.model_dump() for model in state.models]}


def _dated(value: Any) -> Any:
    """The same with times as text."""
    match value:
        case dict():
            return {name: _dated(each) for name, each in value.items()}
        case list() | tuple():
            return [_dated(each) for each in value]
        case datetime():
            return value.isoformat()
        case _:
            return value
