"""Dashboards of the stream: flow, lag, latency by stage, dead letters.

In: nothing. Out: what each page shows, in the order in which one asks.
"""

from __future__ import annotations

from deploy.monitoring.alerts import LAG
from deploy.monitoring.panels import RATE, Dashboard, Panel, percentiles, quantile, rate
from deploy.monitoring.slos import OBJECTIVES, Objective

WAIT = "pentimento_upload_to_verdict_seconds"
STAGE = "pentimento_stage_seconds"


def budget(objective: Objective) -> Panel:
    """What is left of three days' share of an error budget; below 0 it is overspent."""
    left = f"1 - {objective.ratio('3d')} / {1 - objective.goal:g}"
    about = f"{objective.summary}. Goal {objective.goal:.2%} in 30 days; here over three days. Below 0 is overspent."
    title = f"{objective.name.replace('_', ' ').capitalize()}: budget left"
    return Panel(title, about, ((left, "left"),), unit="percentunit", kind="stat", width=8)


FLOW = Dashboard(
    "flow",
    "flow",
    "Uploads in, verdicts out, and whether the promises are kept.",
    (
        *(budget(objective) for objective in OBJECTIVES),
        Panel(
            "Messages finished",
            "By topic, a second. image-uploads is what comes in, image-verdicts what came out.",
            ((rate("pentimento_messages_total", "topic"), "{{topic}}"),),
            unit="ops",
        ),
        Panel(
            "Upload to verdict",
            "From the platform's uploaded_at until the learn group has the verdict. Points lead to traces.",
            percentiles(WAIT),
            unit="s",
            limit=60,
            exemplars=True,
        ),
        Panel(
            "Uploads without a verdict",
            "Accepted more than 20 minutes ago, and nothing in the ledger. Anything but 0 breaks the promise.",
            (("max(pentimento_unjudged_uploads)", "uploads"),),
            kind="stat",
            width=6,
            limit=1,
        ),
        Panel(
            "Waiting",
            "Messages on all topics that are not committed yet.",
            ((f"sum({LAG})", "messages"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "In work",
            "Messages taken and not finished, by group.",
            (("sum by (group) (pentimento_in_flight)", "{{group}}"),),
        ),
        Panel(
            "Requests to the web process",
            "By status. Server's errors count against availability.",
            ((rate("pentimento_web_requests_total", "status"), "{{status}}"),),
            unit="reqps",
            stacked=True,
        ),
        Panel(
            "Time of a request", "Answers of API and pages.", percentiles("pentimento_web_request_seconds"), unit="s"
        ),
        Panel(
            "Releases that run",
            "Processes by release. Two at once is an upgrade under way, or one that stopped half-way.",
            (("count by (version) (pentimento_build_info)", "{{version}}"),),
            width=12,
            stacked=True,
        ),
    ),
)

LAGS = Dashboard(
    "lag",
    "lag",
    "Is the stream keeping up, and if not, which group is behind?",
    (
        Panel("Lag by topic", "Messages not yet committed, by the broker's count.", ((LAG, "{{topic}}"),)),
        Panel(
            "Lag by partition",
            "One partition alone: a poisoned message that is tried again, or a key that is too frequent.",
            (("max by (topic, partition) (pentimento_lag_messages)", "{{topic}} {{partition}}"),),
        ),
        Panel(
            "Growth of the lag",
            "Messages a second that come and are not finished. Above 0 for long: more processes or partitions.",
            ((f"deriv({LAG}[10m])", "{{topic}}"),),
        ),
        Panel(
            "Time until it is worked off",
            "Lag over what is finished a second.",
            ((f"{LAG} / on (topic) {rate('pentimento_messages_total', 'topic')}", "{{topic}}"),),
            unit="s",
        ),
        Panel(
            "Age of the oldest unregistered original",
            "INDEX-STALE: uploads are judged without the originals that wait.",
            (("max(pentimento_index_stale_seconds)", "age"),),
            unit="s",
            limit=60,
        ),
        Panel(
            "Registered to findable",
            "From an original's event until a search finds it.",
            percentiles("pentimento_original_to_findable_seconds"),
            unit="s",
        ),
        Panel(
            "Originals to be prepared",
            "Registered and found as a whole, not yet by their parts.",
            (("max(pentimento_unprepared_originals)", "originals"),),
        ),
        Panel(
            "Age of the oldest original to be prepared",
            "How long uploads are sought without the parts of some originals.",
            (("max(pentimento_unprepared_oldest_seconds)", "age"),),
            unit="s",
            limit=3600,
        ),
        Panel(
            "Queues of those judged again",
            "Because of a late original, or of a new model.",
            (
                ("max(pentimento_late_queued_uploads)", "late originals"),
                ("max(pentimento_rejudge_queued_uploads)", "re-judging"),
            ),
        ),
        Panel(
            "Age of the oldest upload with a late original",
            "How long verdicts lag behind the library.",
            (("max(pentimento_late_oldest_seconds)", "age"),),
            unit="s",
            limit=3600,
        ),
    ),
)

LATENCY = Dashboard(
    "latency",
    "latency by stage",
    "Where the time of an upload goes.",
    (
        Panel(
            "95th percentile by stage",
            "One stage's work on one image. Points lead to traces.",
            ((quantile(0.95, STAGE, "stage"), "{{stage}}"),),
            unit="s",
            exemplars=True,
        ),
        Panel(
            "Median by stage",
            "One stage's work on one image.",
            ((quantile(0.5, STAGE, "stage"), "{{stage}}"),),
            unit="s",
        ),
        Panel(
            "Where the time goes",
            "Seconds of work a second, by stage: what would have to be faster, or more.",
            ((rate(f"{STAGE}_sum", "stage"), "{{stage}}"),),
            unit="s",
            stacked=True,
        ),
        Panel(
            "Time of a message by topic, 95th percentile",
            "Retries included: the difference to the stages is waiting.",
            ((quantile(0.95, "pentimento_message_seconds", "topic"), "{{topic}}"),),
            unit="s",
            exemplars=True,
        ),
        Panel(
            "Calls tried again",
            "Because a dependency was away.",
            ((rate("pentimento_retries_total", "dependency"), "{{dependency}}"),),
            unit="ops",
        ),
        Panel(
            "Circuits",
            "1: calls to a dependency are held back.",
            (("max by (dependency) (pentimento_circuit_open)", "{{dependency}}"),),
            limit=1,
        ),
        Panel(
            "Processor",
            "Cores in use by process.",
            ((f"rate(process_cpu_seconds_total[{RATE}])", "{{job}} {{instance}}"),),
        ),
        Panel("Memory", "Resident.", (("process_resident_memory_bytes", "{{job}} {{instance}}"),), unit="bytes"),
    ),
)

DEAD_LETTERS = Dashboard(
    "dead-letters",
    "dead letters",
    "Messages that were given up. `pentimento replay list` shows each, `replay redrive` sends it again.",
    (
        Panel(
            "In the last day",
            "By group and kind.",
            (("sum by (group, kind) (increase(pentimento_dead_letters_total[1d]))", "{{group}} {{kind}}"),),
            kind="stat",
            limit=1,
        ),
        Panel(
            "Share of messages",
            "Half of a hundred stops a worker.",
            ((f"{rate('pentimento_dead_letters_total')} / {rate('pentimento_messages_total')}", "share"),),
            unit="percentunit",
            limit=0.5,
        ),
        Panel(
            "By kind",
            "undecodable and rejected: the sender's; unavailable: something was away too long; broken: a bug.",
            ((rate("pentimento_dead_letters_total", "kind"), "{{kind}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "By group",
            "Where they come from.",
            ((rate("pentimento_dead_letters_total", "group"), "{{group}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Outcomes by topic",
            "Everything that was finished and not handled.",
            ((rate("pentimento_messages_total", "topic, outcome", '{outcome!="handled"}'), "{{topic}} {{outcome}}"),),
            unit="ops",
        ),
        Panel(
            "Originals with too many uploads",
            "Matched more earlier uploads than are judged again.",
            ((rate("pentimento_late_cut_total"), "originals"),),
            unit="ops",
        ),
    ),
)
