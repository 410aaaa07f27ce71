"""Every metric of a process, each declared once.

In: observations from the stage loop and the clients. Out: a Prometheus registry that `health.py` serves. Labels are
names from `core/topology.py` and fixed words, never ids. Seconds are wall-clock.
"""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""OpenTelemetry's advised buckets for messaging durations."""

WAIT_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""An upload may wait for a server to come back, so its way can take an hour."""

SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Scores and areas lie between 0 and 1, and the ends are what a drift shows at first."""


class Metrics:
    """The metrics and the registry that holds them. One per process; a second one shares nothing with the first."""

    def __init__(self) -> None:
        # The library's own switch: without it every series comes a second time as `_created`.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        # 1, with what runs: after an upgrade each process shows which release it is.
        self.build = Gauge("pentimento_build_info", "The release that runs.", ["version"], registry=registry)
        self.build.labels(version("pentimento")).set(1)

        # Messages that a group finished. `outcome`: handled, or dead_letter_<kind>.
        self.messages = Counter(
            "pentimento_messages_total", "Messages finished.", ["group", "topic", "outcome"], registry=registry
        )
        # From taking a message off its stream to its acknowledgement, retries included.
        self.message_seconds = Histogram(
            "pentimento_message_seconds", "Time per message.", ["group", "topic"], buckets=SECONDS, registry=registry
        )
        # One stage's work on one image: guard, fingerprint, lookup, route, constrained, unconstrained, verdict, ...
        self.stage_seconds = Histogram(
            "pentimento_stage_seconds", "Time per stage and image.", ["stage"], buckets=SECONDS, registry=registry
        )
        # Calls made again because a dependency was away: models, postgres, objects, kafka.
        self.retries = Counter("pentimento_retries_total", "Calls repeated.", ["dependency"], registry=registry)
        # Messages given up. `kind`: undecodable, rejected, unavailable, broken.
        self.dead_letters = Counter(
            "pentimento_dead_letters_total", "Messages moved to dead-letters.", ["group", "kind"], registry=registry
        )
        # Verdicts that the learn group saw for the first time. `decision` and `path` as in the event.
        self.verdicts = Counter("pentimento_verdicts_total", "Verdicts.", ["decision", "path"], registry=registry)
        # What the models said of uploads, by path: what drifts when uploads or models change. Scores are calibrated
        # probabilities, areas shares of the picture.
        self.verdict_score = Histogram(
            "pentimento_verdict_score", "Scores of verdicts.", ["path"], buckets=SHARES, registry=registry
        )
        self.verdict_area = Histogram(
            "pentimento_verdict_area", "Flagged areas of verdicts.", ["path"], buckets=SHARES, registry=registry
        )
        # Verdicts by the models that they came from: which version serves, and since when.
        self.verdict_models = Counter(
            "pentimento_verdict_models_total", "Verdicts by model.", ["model", "version"], registry=registry
        )
        # Messages at the broker that the group has not committed yet, by the broker's count.
        self.lag = Gauge(
            "pentimento_lag_messages", "Messages not yet committed.", ["topic", "partition"], registry=registry
        )
        # 1 while calls to a dependency are held back, a probe included; 0 otherwise.
        self.circuit_open = Gauge(
            "pentimento_circuit_open", "Whether the circuit is open.", ["dependency"], registry=registry
        )
        # Messages taken and not finished.
        self.in_flight = Gauge("pentimento_in_flight", "Messages being handled.", ["group"], registry=registry)
        # From `uploaded_at` until the learn group has the verdict: what a consumer of the platform waits.
        self.upload_to_verdict = Histogram(
            "pentimento_upload_to_verdict_seconds", "Upload to verdict.", buckets=WAIT_SECONDS, registry=registry
        )
        # From an original's `ce_time` until lookup finds it and the earlier uploads that match it are queued.
        self.original_to_findable = Histogram(
            "pentimento_original_to_findable_seconds", "Registered to findable.", buckets=WAIT_SECONDS,
            registry=registry,
        )  # fmt: skip
        # How long the oldest original that is not registered yet waits, by the broker's messages; 0 where none does.
        self.index_stale = Gauge(
            "pentimento_index_stale_seconds", "Age of the oldest unregistered original.", registry=registry
        )
        # Originals that are registered and not prepared yet (found by their hash, not by their parts), and how long the
        # oldest has waited: what the database says, the same in every process that says it.
        self.unprepared = Gauge("pentimento_unprepared_originals", "Originals to be prepared.", registry=registry)
        self.unprepared_oldest = Gauge(
            "pentimento_unprepared_oldest_seconds", "Age of the oldest of them.", registry=registry
        )
        # What became of them. `outcome`: prepared, or why an original is not: object_missing, decoder_crashed, failed
        # or another code of core/errors.py.
        self.prepared = Counter(
            "pentimento_prepared_originals_total", "Originals prepared.", ["outcome"], registry=registry
        )
        # Uploads in the queue of those that are judged again, and the age of the oldest: what the database says, the
        # same in every process that says it.
        self.late_queued = Gauge("pentimento_late_queued_uploads", "Uploads to be judged again.", registry=registry)
        self.late_oldest = Gauge("pentimento_late_oldest_seconds", "Age of the oldest of them.", registry=registry)
        # What became of them. `outcome`: sent (to judge), revised, or why the verdict stayed (core/judge/late.py).
        self.late = Counter("pentimento_late_uploads_total", "Late originals' uploads.", ["outcome"], registry=registry)
        # Uploads that wait to be judged again by other models, by the database; and what became of them. `outcome`:
        # sent, revised, unchanged (judged again, nothing new), or why the verdict stayed (core/judge/rejudge.py).
        self.rejudge_queued = Gauge("pentimento_rejudge_queued_uploads", "Uploads to be re-judged.", registry=registry)
        self.rejudged = Counter("pentimento_rejudge_uploads_total", "Re-judged.", ["outcome"], registry=registry)
        # Originals that matched more earlier uploads than `late.max_uploads`.
        self.late_cut = Counter("pentimento_late_cut_total", "Originals with too many uploads.", registry=registry)
        # Uploads whose lookup passed over something on the stop list; registrations of pictures that are on it.
        self.stop_skipped = Counter("pentimento_stop_skipped_total", "Lookups that passed over.", registry=registry)
        self.stopped = Counter(
            "pentimento_stopped_total", "Stopped pictures registered.", ["reason"], registry=registry
        )
        # New hard cases, by every reason that each has (core/learn/hardcase.py).
        self.hard_cases = Counter("pentimento_hard_cases_total", "Hard cases found.", ["reason"], registry=registry)
        # Where things stand by the database, the same in every process that says it: take the maximum. Uploads that
        # were accepted long enough ago and have no verdict; hard cases that nobody annotated; samples to fit on; how
        # long the round in work has taken, and how long ago the last one ended (0 where there is none).
        self.unjudged = Gauge("pentimento_unjudged_uploads", "Accepted, without a verdict.", registry=registry)
        self.hard_cases_open = Gauge("pentimento_hard_cases_open", "Hard cases to annotate.", registry=registry)
        self.samples = Gauge("pentimento_samples", "Samples in the manifest.", registry=registry)
        self.round_open = Gauge("pentimento_round_open_seconds", "Age of the round in work.", registry=registry)
        self.round_ended = Gauge("pentimento_round_ended_seconds", "Time since the last round.", registry=registry)
        # Answers of the web process. `route` is the path's pattern, `status` the HTTP status.
        self.web_requests = Counter(
            "pentimento_web_requests_total", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.web_seconds = Histogram(
            "pentimento_web_request_seconds", "Time per request.", ["route"], buckets=SECONDS, registry=registry
        )

        # Tries to deliver something to a webhook. `outcome`: delivered, later (to be tried again), given_up.
        self.webhooks = Counter(
            "pentimento_webhook_attempts_total", "Deliveries tried.", ["outcome"], registry=registry
        )
        # From sending such a request until its answer, or until there is none to be expected.
        self.webhook_seconds = Histogram(
            "pentimento_webhook_seconds", "Time per delivery.", buckets=SECONDS, registry=registry
        )
        # Deliveries that wait, and dead letters that nobody has redriven: what the database says.
        self.webhooks_queued = Gauge("pentimento_webhook_queued_deliveries", "Deliveries waiting.", registry=registry)
        self.webhooks_dead = Gauge("pentimento_webhook_dead_deliveries", "Deliveries given up.", registry=registry)
        # Requests that were answered with 429. `by`: person or address.
        self.limited = Counter("pentimento_limited_requests_total", "Requests refused.", ["by"], registry=registry)
