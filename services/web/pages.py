"""Pages: the templates, their words for people, and links that survive any upload id.

In: a template's name and values. Out: an HTML response. Every value is escaped; nothing inline, so that the content
security policy can forbid it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from services.core.access import Role
from services.core.errors import REJECTION_CODES
from services.core.events import Decision, Path, VerdictReached
from services.core.evidence import NOTES
from services.web.current import csrf_field, csrf_token, visitor

Kind = Literal["upload", "original", "aligned", "difference", "mask", "outline", "flagged"]
Size = Literal["thumb", "view", "full"]

DECISIONS: dict[Decision, str] = {
    Decision.MANIPULATED: "Manipulated",
    Decision.INCONCLUSIVE: "Inconclusive",
    Decision.NO_EVIDENCE: "No evidence",
    Decision.REJECTED: "Rejected",
}
PATHS: dict[Path, str] = {
    Path.CONSTRAINED_SPG: "against its original",
    Path.CONSTRAINED_SDG: "holds an object of an original",
    Path.UNCONSTRAINED: "looked at alone",
    Path.IDENTICAL: "same file as an original",
    Path.REUSED: "repeats an earlier verdict",
    Path.REJECTED: "could not be judged",
    Path.REVIEWED: "decided by a moderator",
}
NAVIGATION: tuple[tuple[str, str, Role], ...] = (
    ("Verdicts", "/", Role.VIEWER),
    ("Review", "/review", Role.MODERATOR),
    ("Overview", "/overview", Role.VIEWER),
    ("Search", "/search", Role.VIEWER),
    ("Upload", "/upload", Role.MODERATOR),
    ("Webhooks", "/admin/webhooks", Role.ADMIN),
)
"""The pages in the head of every page: label, path, and who may open it. A page names its own with
`{% set section = "/review" %}`."""


def render(
    template: str, values: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """A page."""
    return HTMLResponse(_environment().get_template(template).render(values), status, dict(headers or {}))


def picture_link(verdict: VerdictReached, kind: Kind, size: Size) -> str:
    """Where a picture of a verdict is served."""
    return f"/pictures/{kind}/{_segment(verdict.tenant)}/{_segment(verdict.upload_id)}?size={size}&r={verdict.revision}"


def verdict_link(tenant: str, upload_id: str, *, api: bool = False) -> str:
    """The page of a verdict, or its JSON twin."""
    return f"{'/api/v1' if api else ''}/verdicts/{_segment(tenant)}/{_segment(upload_id)}"


def original_link(tenant: str, original_id: str) -> str:
    """Where an original says whether it can be found."""
    return f"/api/v1/originals/{_segment(tenant)}/{_segment(original_id)}"


def list_link(*, api: bool = False, **query: str | None) -> str:
    """The list of verdicts with a query; values that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    path = "/api/v1/verdicts" if api else "/"
    return f"{path}?{urlencode(given)}" if given else path


def _segment(text: str) -> str:
    return quote(text, safe="")


def _percent(share: float | None, digits: int = 0) -> str:
    if share is None:
        return "–"
    if 0 < share < 0.001:
        return "< 0.1%"
    return f"{share * 100:.{digits}f}%"


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _minute(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _milliseconds(value: float) -> str:
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def _bytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB" if size >= 1_000_000 else f"{max(1, round(size / 1000))} kB"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("services.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": _percent,
        "moment": _moment,
        "minute": _minute,
        "milliseconds": _milliseconds,
        "bytes": _bytes,
        "segment": _segment,
    }
    environment.globals |= {
        "DECISIONS": DECISIONS,
        "NAVIGATION": NAVIGATION,
        "NOTES": NOTES,
        "PATHS": PATHS,
        "REJECTIONS": REJECTION_CODES,
        "csrf_field": csrf_field,
        "csrf_token": csrf_token,
        "list_link": list_link,
        "picture_link": picture_link,
        "verdict_link": verdict_link,
        "visitor": visitor,
    }
    return environment
