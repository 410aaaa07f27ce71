"""Dashboards of the models: the server, decisions and drift, the learning loop.

In: nothing. Out: what each page shows, in the order in which one asks.
"""

from __future__ import annotations

from deploy.monitoring.alerts import SHARE
from deploy.monitoring.panels import RATE, Dashboard, Panel, quantile, rate
from deploy.monitoring.stream_pages import STAGE

REQUESTS = rate("ts_inference_requests_total", "model_name")
MODELS = Dashboard(
    "models",
    "model server",
    "TorchServe by its own numbers, and what the workers see of it.",
    (
        Panel("Requests", "By model.", ((REQUESTS, "{{model_name}}"),), unit="reqps"),
        Panel(
            "Time in the queue",
            "Mean. Long: more model workers, or a GPU.",
            ((f"{rate('ts_queue_latency_microseconds', 'model_name')} / {REQUESTS}", "{{model_name}}"),),
            unit="µs",
        ),
        Panel(
            "Time of an answer",
            "Mean, queue included.",
            ((f"{rate('ts_inference_latency_microseconds', 'model_name')} / {REQUESTS}", "{{model_name}}"),),
            unit="µs",
        ),
        Panel(
            "Answers by kind",
            "Probes included. 5XX is a full queue, a dead worker, or a handler that failed.",
            ((rate("Requests2XX"), "2XX"), (rate("Requests4XX"), "4XX"), (rate("Requests5XX"), "5XX")),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "What the workers see",
            "95th percentile of the stages that call it, waiting for a place and retries included.",
            ((quantile(0.95, STAGE, "stage", '{stage=~"constrained|unconstrained"}'), "{{stage}}"),),
            unit="s",
            exemplars=True,
        ),
        Panel(
            "Circuit and retries",
            "1: calls are held back; retries a second.",
            (
                ('max(pentimento_circuit_open{dependency="models"})', "circuit open"),
                (rate("pentimento_retries_total", where='{dependency="models"}'), "retries"),
            ),
        ),
    ),
)

DECISIONS = Dashboard(
    "decisions",
    "decisions and drift",
    "What is said of uploads, and whether that changes.",
    (
        Panel(
            "Verdicts",
            "By decision.",
            ((rate("pentimento_verdicts_total", "decision"), "{{decision}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Share of each decision, six hours",
            "Do we cry wolf more often?",
            ((f"{SHARE}6h", "{{decision}}"),),
            unit="percentunit",
        ),
        Panel(
            "Away from the last seven days",
            "Six hours against a week. Beyond 15 points somebody is told.",
            ((f"abs({SHARE}6h - {SHARE}7d)", "{{decision}}"),),
            unit="percentunit",
            limit=0.15,
        ),
        Panel(
            "Verdicts by path",
            "How they were reached. Fewer constrained ones: originals are not found.",
            ((rate("pentimento_verdicts_total", "path"), "{{path}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Verdicts by model",
            "Which version serves, and since when.",
            ((rate("pentimento_verdict_models_total", "model, version"), "{{model}} {{version}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Scores",
            "Their distribution: a hump that wanders is a model or a camera that changed.",
            ((f"sum by (le) (increase(pentimento_verdict_score_bucket[{RATE}]))", "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "Score, quartiles",
            "Over all paths.",
            tuple((quantile(q, "pentimento_verdict_score"), f"{q:g}") for q in (0.25, 0.5, 0.75)),
            unit="percentunit",
        ),
        Panel(
            "Flagged area, quartiles",
            "Share of the picture that masks flag.",
            tuple((quantile(q, "pentimento_verdict_area"), f"{q:g}") for q in (0.25, 0.5, 0.75)),
            unit="percentunit",
        ),
        Panel(
            "Stop list",
            "Lookups that passed over something, and registrations of pictures that are on it.",
            ((rate("pentimento_stop_skipped_total"), "passed over"), (rate("pentimento_stopped_total"), "registered")),
            unit="ops",
        ),
        Panel(
            "Judged again",
            "For a late original or a new model: what became of it.",
            (
                (rate("pentimento_late_uploads_total", "outcome"), "late: {{outcome}}"),
                (rate("pentimento_rejudge_uploads_total", "outcome"), "re-judged: {{outcome}}"),
            ),
            unit="ops",
        ),
    ),
)

LEARNING = Dashboard(
    "learning",
    "learning loop",
    "From hard cases to a model that serves.",
    (
        Panel(
            "Hard cases that wait",
            "Not annotated yet.",
            (("max(pentimento_hard_cases_open)", "cases"),),
            kind="stat",
            width=6,
        ),
        Panel("Samples", "In the manifest.", (("max(pentimento_samples)", "samples"),), kind="stat", width=6),
        Panel(
            "Round in work",
            "For how long; 0 where none is.",
            (("max(pentimento_round_open_seconds)", "age"),),
            unit="s",
            kind="stat",
            width=6,
            limit=172800,
        ),
        Panel(
            "Last round",
            "How long ago it ended.",
            (("max(pentimento_round_ended_seconds)", "ago"),),
            unit="s",
            kind="stat",
            width=6,
        ),
        Panel(
            "New hard cases",
            "By reason. A rise of doubtful scores or outliers: uploads are not what the model was fitted on.",
            ((rate("pentimento_hard_cases_total", "reason"), "{{reason}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Re-judging after a promotion",
            "What became of earlier verdicts.",
            ((rate("pentimento_rejudge_uploads_total", "outcome"), "{{outcome}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Models that judge",
            "A promotion is a change of colour.",
            ((rate("pentimento_verdict_models_total", "model, version"), "{{model}} {{version}}"),),
            unit="ops",
            stacked=True,
        ),
    ),
)
