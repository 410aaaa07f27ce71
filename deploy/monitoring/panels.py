"""Grafana's dialect: a dashboard's JSON from titles, expressions and units.

In: rows of panels. Out: the JSON model that Grafana imports and provisions. The data source is a variable, so that one
file fits every Grafana; `uid` never changes, so that links and bookmarks survive an update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 39
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
HEIGHT = 8
RATE = "$__rate_interval"

Kind = Literal["timeseries", "stat", "heatmap"]
Series = tuple[str, str]
"""Expression and legend."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `limit`: where it turns red. `exemplars`: points that lead to traces."""

    title: str
    about: str
    series: tuple[Series, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 12
    limit: float | None = None
    stacked: bool = False
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page. `file` without its ending; its `uid` is `pentimento-<file>`."""

    file: str
    title: str
    about: str
    panels: tuple[Panel, ...]


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    """The q-quantile of a histogram over all processes, by labels."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, sum by ({labels}) (rate({metric}_bucket{where}[{RATE}])))"


def rate(metric: str, by: str = "", where: str = "") -> str:
    """A counter's events a second over all processes, by labels."""
    grouping = f" by ({by}) " if by else ""
    return f"sum{grouping}(rate({metric}{where}[{RATE}]))"


def percentiles(metric: str, where: str = "") -> tuple[Series, ...]:
    """Median, 95th and 99th of a histogram."""
    return tuple((quantile(q, metric, where=where), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def as_json(dashboard: Dashboard) -> dict[str, Any]:
    """Grafana's JSON model."""
    return {
        "uid": f"pentimento-{dashboard.file}",
        "title": f"Pentimento: {dashboard.title}",
        "description": dashboard.about,
        "tags": ["pentimento"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one crosshair through all panels
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "templating": {"list": [_source()]},
        "links": [
            {
                "type": "dashboards",
                "title": "Pentimento",
                "tags": ["pentimento"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "panels": _placed(dashboard.panels),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Panels from left to right, a new row where one does not fit."""
    placed: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        placed.append({"id": number, "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT}, **_panel(panel)})
        x += panel.width
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        mode = "dashed" if panel.limit is not None else "off"
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 30 if panel.stacked else 0
        defaults["custom"] = {"thresholdsStyle": {"mode": mode}, "stacking": stacking, "fillOpacity": fill}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [_target(panel, number) for number in range(len(panel.series))],
    }


def _options(kind: Kind) -> dict[str, Any]:
    match kind:
        case "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
        case "heatmap":
            return {"calculate": False, "yAxis": {"unit": "short"}}
        case "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}


def _target(panel: Panel, number: int) -> dict[str, Any]:
    expression, legend = panel.series[number]
    return {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "expr": expression,
        "legendFormat": legend,
        "exemplar": panel.exemplars,
        "format": "heatmap" if panel.kind == "heatmap" else "time_series",
    }
