"""Every expression in the files of the chart, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring.promql import names

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "pentimento"


def rules() -> list[dict[str, Any]]:
    """Every rule of the chart's rule files."""
    files = sorted((CHART / "rules").glob("*.yaml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def pages() -> list[dict[str, Any]]:
    """Every dashboard of the chart."""
    return [json.loads(file.read_text()) for file in sorted((CHART / "dashboards").glob("*.json"))]


def expressions() -> Iterator[str]:
    """Those of rules and of panels."""
    yield from (str(rule["expr"]) for rule in rules())
    for page in pages():
        yield from (target["expr"] for panel in page["panels"] for target in panel["targets"])


def asked_for() -> set[str]:
    """Every metric that a process must expose: what is recorded by a rule, and Prometheus' own, is not."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {metric for expression in expressions() for metric in names(expression).metrics}
    return used - recorded - {"up"}


def labels_asked_for() -> set[str]:
    """Every label that is matched or grouped by; those that Prometheus adds, and histograms have, are left out."""
    return {label for expression in expressions() for label in names(expression).labels} - {"job", "instance", "le"}
