"""Service level objectives, as recording rules and multi-window, multi-burn-rate alerts.

In: for each objective what counts, and what of it is bad. Out: Prometheus rule groups. The windows and rates are those
of Google's SRE workbook, chapter 5: a page where 2 % of a month's budget goes in an hour or 5 % in six, a ticket where
10 % go in one or three days. The short window beside each long one lets an alert end soon after its cause has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
BURNS = (
    ("page", "1h", "5m", 14.4, "2m"),
    ("page", "6h", "30m", 6.0, "5m"),
    ("ticket", "1d", "2h", 3.0, "15m"),
    ("ticket", "3d", "6h", 1.0, "1h"),
)
"""Severity, long window, short window, times the rate that spends the budget in exactly 30 days, how long it lasts."""


@dataclass(frozen=True, slots=True)
class Objective:
    """`bad` and `total` are selectors' sums with `WINDOW` in the place of the window. `goal` 0..1."""

    name: str
    alert: str
    goal: float
    bad: str
    total: str
    summary: str

    def ratio(self, window: str) -> str:
        """The recorded share of what was bad."""
        return f"slo:pentimento_{self.name}_errors:ratio_rate{window}"


OBJECTIVES = (
    Objective(
        name="verdict_latency",
        alert="PentimentoVerdictLatencyBurn",
        goal=0.99,
        bad="sum(rate(pentimento_upload_to_verdict_seconds_count[WINDOW])) "
        '- sum(rate(pentimento_upload_to_verdict_seconds_bucket{le="60.0"}[WINDOW]))',
        total="sum(rate(pentimento_upload_to_verdict_seconds_count[WINDOW]))",
        summary="Too many uploads wait for their verdict for more than 60 s",
    ),
    Objective(
        name="verdict_completeness",
        alert="PentimentoVerdictCompletenessBurn",
        goal=0.999,
        bad='sum(rate(pentimento_messages_total{topic=~"image-uploads|image-intakes",'
        'outcome=~"dead_letter_(unavailable|broken)"}[WINDOW])) or vector(0)',
        total='sum(rate(pentimento_messages_total{topic="image-uploads"}[WINDOW]))',
        summary="Too many uploads end as dead letters through our own fault",
    ),
    Objective(
        name="availability",
        alert="PentimentoAvailabilityBurn",
        goal=0.999,
        bad='sum(rate(pentimento_web_requests_total{status=~"5..",route!="/readyz"}[WINDOW])) or vector(0)',
        total='sum(rate(pentimento_web_requests_total{route!="/readyz"}[WINDOW]))',
        summary="Too many requests to the API and the pages are answered with a server's error",
    ),
)


def recording(objective: Objective) -> dict[str, Any]:
    """The shares of what was bad, over every window."""
    rules = [
        {
            "record": objective.ratio(window),
            "expr": f"({objective.bad}) / ({objective.total})".replace("WINDOW", window),
        }
        for window in WINDOWS
    ]
    return {"name": f"pentimento-slo-{objective.name}", "rules": rules}


def burning(objective: Objective) -> Iterator[tuple[dict[str, str], str, str]]:
    """Labels, expression and duration of each of its alerts. `window` tells those of one severity apart: Prometheus
    takes alerts with the same name and labels for one series."""
    budget = 1 - objective.goal
    for severity, long, short, rate, lasting in BURNS:
        limit = f"{rate:g} * {budget:g}"
        labels = {"severity": severity, "window": long}
        yield labels, f"{objective.ratio(long)} > {limit} and {objective.ratio(short)} > {limit}", lasting
