"""Dashboards and rules as they lie in the chart: fresh, complete, and of metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.monitoring.__main__ import files, main, stale
from deploy.monitoring.rules import alert_names
from deploy.monitoring.slos import BURNS, OBJECTIVES
from services.core import topology
from services.metrics import Metrics
from tests.monitoring.expressions import CHART, ROOT, labels_asked_for, pages, rules

RUNBOOKS = ROOT / "docs" / "runbooks"
OF_TORCHSERVE = {"model_name"}


def test_the_files_of_the_chart_are_fresh() -> None:
    assert stale(CHART) == []


def test_a_stale_missing_or_foreign_file_is_found_and_mended(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    (tmp_path / "rules" / "alerts.yaml").write_text("groups: []\n")
    (tmp_path / "dashboards" / "flow.json").unlink()
    (tmp_path / "dashboards" / "mine.json").write_text("{}")
    assert stale(tmp_path) == ["dashboards/flow.json", "dashboards/mine.json", "rules/alerts.yaml"]
    assert main(["--check", "--out", str(tmp_path)]) == 1
    assert main(["--out", str(tmp_path)]) == 0
    assert stale(tmp_path) == ["dashboards/mine.json"]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*alert_names(), "README"}
    for rule in (rule for rule in rules() if "alert" in rule):
        assert rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md")
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_no_two_alerts_have_the_same_name_and_labels() -> None:
    alerts = [(rule["alert"], *sorted(rule["labels"].items())) for rule in rules() if "alert" in rule]
    assert len(alerts) == len(set(alerts))


@pytest.mark.parametrize("name", alert_names())
def test_a_runbook_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE) == [name, "What it means", "Look here", "Do this"]
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_every_objective_is_recorded_over_every_window_that_its_alerts_ask_for() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for objective in OBJECTIVES:
        assert {objective.ratio(window) for _, long, short, *_ in BURNS for window in (long, short)} <= recorded


def test_somebody_is_called_when_no_worker_reads_a_topic() -> None:
    (rule,) = [rule for rule in rules() if rule.get("alert") == "PentimentoNoWorker"]
    watched = re.findall(r'absent\(topic:pentimento_lag_messages:sum\{topic="([\w-]+)"\}\)', str(rule["expr"]))
    assert sorted(watched) == sorted({topic for group in topology.GROUPS.values() for topic in group.reads})


def test_labels_that_are_asked_for_are_labels_that_a_metric_has() -> None:
    ours = {label for metric in vars(Metrics()).values() for label in getattr(metric, "_labelnames", ())}
    assert labels_asked_for() <= ours | OF_TORCHSERVE


def test_a_dashboard_works_in_any_grafana_and_keeps_its_address() -> None:
    assert len(pages()) == len([name for name in files() if name.startswith("dashboards/")])
    for page in pages():
        assert re.fullmatch(r"pentimento-[a-z-]+", page["uid"])
        assert [variable["name"] for variable in page["templating"]["list"]] == ["datasource"]
        for panel in page["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    assert len({page["uid"] for page in pages()}) == len(pages())


def test_latencies_lead_to_traces() -> None:
    with_exemplars = [
        panel["title"] for page in pages() for panel in page["panels"] for each in panel["targets"] if each["exemplar"]
    ]
    assert {"Upload to verdict", "95th percentile by stage"} <= set(with_exemplars)
