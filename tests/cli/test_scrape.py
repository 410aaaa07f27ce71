"""Every metric that a dashboard or an alert asks for is there to be scraped from a running stack."""

from __future__ import annotations

import re

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from services.local.stack import Stack
from services.local.torchserve import TorchServe
from tests.cli.conftest import SAMPLES, Pentimento
from tests.monitoring.expressions import asked_for

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def endpoints(stack: Stack) -> dict[str, str]:
    """Where each process is scraped, by name."""
    torchserve = stack.components["torchserve"].component
    assert isinstance(torchserve, TorchServe)
    ours = {
        name: f"{kept.address}/metrics"
        for name, kept in stack.components.items()
        if name == "web" or name.partition("-")[0] in ("intake", "judge", "learn")
    }
    return {**ours, "torchserve": torchserve.metrics_url}


def exposed(text: str) -> set[str]:
    """The series that a scrape can bring, by their names: of every family, whether or not it has a sample yet."""
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    families = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE)
    return {name + ending for name, kind in families for ending in endings.get(kind, ("",))}


def test_every_metric_of_a_dashboard_or_alert_is_exposed(stack: Stack, on_stack: Pentimento) -> None:
    told = on_stack("submit", SAMPLES / "uploads" / "lighthouse.jpg", "--tenant", "scraped", "--wait", "--json")
    assert told.status == 0, told.stderr
    scrapes = {name: httpx.get(url, timeout=30) for name, url in endpoints(stack).items()}
    assert set(scrapes) == {"intake-1", "judge-1", "learn-1", "web", "torchserve"}
    assert {name for name, answer in scrapes.items() if answer.status_code != 200} == set()
    there = set().union(*(exposed(answer.text) for answer in scrapes.values()))
    assert asked_for() - there == set()


def test_the_stages_of_an_upload_lead_to_its_trace(stack: Stack, on_stack: Pentimento) -> None:
    told = on_stack("submit", SAMPLES / "uploads" / "capsule.jpg", "--tenant", "traced", "--wait", "--json")
    assert told.status == 0, told.stderr
    text = httpx.get(endpoints(stack)["judge-1"], headers=OPENMETRICS, timeout=30).text
    traces = {
        sample.exemplar.labels["trace_id"]
        for family in openmetrics(text)
        for sample in family.samples
        if sample.name == "pentimento_stage_seconds_bucket" and sample.exemplar
    }
    assert traces
    assert all(len(trace) == 32 for trace in traces)
