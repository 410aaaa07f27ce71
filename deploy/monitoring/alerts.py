"""What operators are called for, and the page that says what to do then.

In: the topology's topics. Out: alerts; `docs/runbooks/` has a page for each, by its name. Expressions ask only for what
a process of ours or TorchServe exposes, and for Prometheus' own `up`. Gauges that every process takes from the same
database or broker are read with `max`, never summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.core import topology


@dataclass(frozen=True, slots=True)
class Alert:
    """`lasting`: for how long the expression must hold. `summary` may use the labels that it has."""

    name: str
    severity: Literal["page", "ticket"]
    expression: str
    lasting: str
    summary: str


LAG = "topic:pentimento_lag_messages:sum"
SHARE = "decision:pentimento_verdicts:share"

RECORDED = {
    LAG: "sum by (topic) (max by (topic, partition) (pentimento_lag_messages))",
    f"{SHARE}6h": "sum by (decision) (rate(pentimento_verdicts_total[6h])) "
    "/ on () group_left () sum(rate(pentimento_verdicts_total[6h]))",
    f"{SHARE}7d": "sum by (decision) (rate(pentimento_verdicts_total[7d])) "
    "/ on () group_left () sum(rate(pentimento_verdicts_total[7d]))",
}
"""Recorded under these names, because several expressions ask for them."""

READ = sorted({topic for group in topology.GROUPS.values() for topic in group.reads})
"""Topics whose lag the workers that read them report, and nobody else."""

ALERTS = (
    Alert(
        "PentimentoTargetDown",
        "page",
        'up{job=~".*pentimento.*"} == 0',
        "5m",
        "{{ $labels.job }} {{ $labels.instance }} does not answer Prometheus",
    ),
    Alert(
        "PentimentoRestarting",
        "ticket",
        'changes(process_start_time_seconds{job=~".*pentimento.*"}[1h]) > 3',
        "5m",
        "{{ $labels.job }} {{ $labels.instance }} has started more than three times in an hour",
    ),
    Alert(
        "PentimentoNoProgress",
        "page",
        f"{LAG} > 0 unless on (topic) sum by (topic) (rate(pentimento_messages_total[10m])) > 0",
        "10m",
        "Messages wait on {{ $labels.topic }} and none is finished",
    ),
    Alert(
        "PentimentoNoWorker",
        "page",
        " or ".join(f'absent({LAG}{{topic="{topic}"}})' for topic in READ),
        "10m",
        "No worker that reads {{ $labels.topic }} has been heard of for ten minutes",
    ),
    Alert(
        "PentimentoLagGrowing",
        "ticket",
        f"{LAG} > 500 and deriv({LAG}[30m]) > 0",
        "30m",
        "{{ $labels.topic }} has {{ $value }} messages waiting, and more come than are finished",
    ),
    Alert(
        "PentimentoUploadsUnjudged",
        "page",
        "max(pentimento_unjudged_uploads) > 0",
        "10m",
        "{{ $value }} uploads were accepted more than 20 minutes ago and have no verdict",
    ),
    Alert(
        "PentimentoDeadLetters",
        "ticket",
        "sum by (group, kind) (increase(pentimento_dead_letters_total[15m])) > 0",
        "1m",
        "{{ $labels.group }} moved messages to dead-letters ({{ $labels.kind }})",
    ),
    Alert(
        "PentimentoCircuitOpen",
        "page",
        "max by (dependency) (pentimento_circuit_open) == 1",
        "2m",
        "Calls to {{ $labels.dependency }} are held back",
    ),
    Alert(
        "PentimentoRetriesHigh",
        "ticket",
        "sum by (dependency) (rate(pentimento_retries_total[10m])) > 1",
        "15m",
        "{{ $labels.dependency }} is tried again {{ $value }} times a second",
    ),
    Alert(
        "PentimentoModelServerErrors",
        "page",
        "sum(rate(Requests5XX[10m])) / (sum(rate(Requests2XX[10m])) + sum(rate(Requests5XX[10m]))) > 0.05",
        "10m",
        "More than 5 % of the model server's answers are errors",
    ),
    Alert(
        "PentimentoModelQueueSlow",
        "ticket",
        "sum by (model_name) (rate(ts_queue_latency_microseconds[10m])) "
        "/ sum by (model_name) (rate(ts_inference_requests_total[10m])) > 10e6",
        "15m",
        "Requests wait more than 10 s in the queue of {{ $labels.model_name }}",
    ),
    Alert(
        "PentimentoIndexStale",
        "ticket",
        "max(pentimento_index_stale_seconds) > 300",
        "10m",
        "An original has waited {{ $value }} s to be registered",
    ),
    Alert(
        "PentimentoOriginalsUnprepared",
        "ticket",
        "max(pentimento_unprepared_oldest_seconds) > 3600",
        "15m",
        "An original has waited more than an hour to be found by its parts",
    ),
    Alert(
        "PentimentoLateOriginalsWaiting",
        "ticket",
        "max(pentimento_late_oldest_seconds) > 3600",
        "15m",
        "Uploads have waited more than an hour to be judged again for a late original",
    ),
    Alert(
        "PentimentoDecisionsDrifted",
        "ticket",
        f"abs({SHARE}6h - {SHARE}7d) > 0.15 and on () sum(increase(pentimento_verdicts_total[6h])) > 200",
        "30m",
        "The share of {{ $labels.decision }} is {{ $value }} away from that of the last seven days",
    ),
    Alert(
        "PentimentoLearningStalled",
        "ticket",
        "max(pentimento_hard_cases_open) > 500 and (max(pentimento_round_ended_seconds) > 7 * 86400 "
        "or max(pentimento_round_ended_seconds) == 0) "  # none ever ended
        "and max(pentimento_round_open_seconds) == 0",
        "1h",
        "Hard cases pile up and no round of the learning loop has run for a week, or ever",
    ),
    Alert(
        "PentimentoRoundHangs",
        "ticket",
        "max(pentimento_round_open_seconds) > 2 * 86400",
        "1h",
        "A round of the learning loop has been in work for more than two days",
    ),
    Alert(
        "PentimentoFilesRunOut",
        "ticket",
        'process_open_fds{job=~".*pentimento.*"} / process_max_fds{job=~".*pentimento.*"} > 0.8',
        "15m",
        "{{ $labels.job }} {{ $labels.instance }} has four fifths of its files open",
    ),
)
