"""Prometheus' rule files, from the objectives and the alerts.

In: the address where the runbooks are served. Out: rule groups, as `promtool check rules` takes them.
"""

from __future__ import annotations

from typing import Any

from deploy.monitoring.alerts import ALERTS, RECORDED
from deploy.monitoring.slos import OBJECTIVES, burning, recording

RUNBOOKS = "https://runbooks.example.com/pentimento"
"""Where a copy of `docs/runbooks/` is served; `python -m deploy.monitoring --runbooks URL` writes yours."""


def recorded() -> dict[str, Any]:
    """Rules that record what dashboards and alerts ask for again and again."""
    plain = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    slos = [recording(objective) for objective in OBJECTIVES]
    return {"groups": [{"name": "pentimento-recorded", "rules": plain}, *slos]}


def alerts(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """Alerts on symptoms, then on budgets that burn."""
    plain = [
        _alert(each.name, {"severity": each.severity}, each.expression, each.lasting, each.summary, runbooks)
        for each in ALERTS
    ]
    burns = [
        _alert(objective.alert, labels, expression, lasting, objective.summary, runbooks)
        for objective in OBJECTIVES
        for labels, expression, lasting in burning(objective)
    ]
    return {"groups": [{"name": "pentimento-alerts", "rules": plain}, {"name": "pentimento-burn-rate", "rules": burns}]}


def alert_names() -> list[str]:
    """Every alert once; each has a runbook of its name."""
    return [*(each.name for each in ALERTS), *(objective.alert for objective in OBJECTIVES)]


def _alert(
    name: str, labels: dict[str, str], expression: str, lasting: str, summary: str, runbooks: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {**labels, "service": "pentimento"},
        "annotations": {"summary": summary, "runbook_url": f"{runbooks.rstrip('/')}/{name}.md"},
    }
