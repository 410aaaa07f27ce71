"""One frozen `Settings` a process, read at start from the environment.

In: variables `PENTIMENTO_<SECTION>__<NAME>`, and below them the file `settings.env` in the data folder, which
`pentimento up` writes. Out: a validated `Settings`. Secrets print as `**********`. `docs/settings.md` is generated from
the field descriptions by `python -m services.settings_docs`; a test holds the two together.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.core.access import Role
from services.core.retention import LEAST_VERDICT_DAYS, Keep


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Section):
    bootstrap_servers: Annotated[str, Field(description="Brokers as `host:port`, comma-separated.")] = "127.0.0.1:9092"
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Field(description="How to talk to the brokers.")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Field(description="SASL mechanism, with SASL_*.")
    ] = "SCRAM-SHA-512"
    username: Annotated[str | None, Field(description="SASL user name.")] = None
    password: Annotated[SecretStr | None, Field(description="SASL password.")] = None
    ca_file: Annotated[Path | None, Field(description="PEM bundle that signs the brokers' certificates.")] = None
    certificate_file: Annotated[
        Path | None, Field(description="PEM certificate by which the brokers know us (mTLS), with KEY_FILE.")
    ] = None
    key_file: Annotated[Path | None, Field(description="PEM key of that certificate.")] = None
    request_timeout_s: Annotated[float, Field(gt=0, description="Deadline of one send, acknowledgement included.")] = 20
    session_timeout_s: Annotated[
        float, Field(ge=6, description="A worker that is silent for so long loses its partitions to the others.")
    ] = 10


class PostgresSettings(Section):
    dsn: Annotated[SecretStr, Field(description="libpq connection string or URL; pgvector must be installable.")] = (
        SecretStr("postgresql://127.0.0.1:5432/pentimento")
    )
    pool_size: Annotated[int, Field(ge=1, le=100, description="Connections a process holds at most.")] = 8
    timeout_s: Annotated[
        float, Field(gt=0, description="Deadline of one query, waiting for a connection included.")
    ] = 10


class ObjectSettings(Section):
    url: Annotated[str, Field(description="`file:///folder`, `s3://bucket/prefix`, `gs://...` or `az://...`.")] = (
        "file:///var/lib/pentimento/objects"
    )
    endpoint: Annotated[str | None, Field(description="S3 endpoint where it is not Amazon's.")] = None
    region: Annotated[str, Field(description="S3 region.")] = "us-east-1"
    access_key_id: Annotated[str | None, Field(description="S3 key; empty uses the workload's identity.")] = None
    secret_access_key: Annotated[SecretStr | None, Field(description="S3 secret.")] = None
    allow_http: Annotated[bool, Field(description="Allow an S3 endpoint without TLS (tests, loopback).")] = False
    timeout_s: Annotated[float, Field(gt=0, description="Deadline of one read or write.")] = 20


class ModelSettings(Section):
    backend: Annotated[
        Literal["torchserve", "oip"], Field(description="TorchServe's own API, or the Open Inference Protocol v2.")
    ] = "torchserve"
    url: Annotated[str, Field(description="Base URL of the inference API.")] = "http://127.0.0.1:8080"
    key_file: Annotated[Path | None, Field(description="TorchServe's `key_file.json`; read again when refused.")] = None
    token: Annotated[SecretStr | None, Field(description="Bearer token, where no key file is used.")] = None
    timeout_s: Annotated[
        float, Field(gt=0, description="Deadline of one prediction; keep below the server's `responseTimeout`.")
    ] = 60
    in_flight: Annotated[int, Field(ge=1, description="Requests at once per process; below the server's queue.")] = 8
    retry_share: Annotated[
        float, Field(ge=0, le=1, description="Retries allowed as a share of requests (the retry budget).")
    ] = 0.1
    breaker_failures: Annotated[int, Field(ge=1, description="Failures in a row that open the circuit.")] = 5
    breaker_open_s: Annotated[float, Field(gt=0, description="How long the circuit stays open before a probe.")] = 5


class ServingSettings(Section):
    management_url: Annotated[
        str, Field(description="Base URL of TorchServe's management API, for `promote`, `rollback` and `watch`.")
    ] = "http://127.0.0.1:8081"
    token: Annotated[
        SecretStr | None,
        Field(description="Bearer token of the management API, where no key file is used; empty: that of the models."),
    ] = None
    metrics_url: Annotated[
        str | None, Field(description="TorchServe's metrics, from which `watch` reads errors and latency.")
    ] = None
    store: Annotated[
        Path | None,
        Field(description="TorchServe's model store as it is seen here; empty: archives get there in another way."),
    ] = None
    workers: Annotated[int, Field(ge=1, description="Workers of a version that is promoted.")] = 1
    startup_timeout_s: Annotated[int, Field(gt=0, description="Time that such a version has to load.")] = 300


class ModelServerSettings(Section):
    host: Annotated[
        str, Field(description="Address of its door. Not loopback: `PENTIMENTO_MODELS__TOKEN` is required.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port of its door, the inference API.")] = 8080
    folder: Annotated[
        Path, Field(description="Where configuration, keys, log and unpacked models lie; it must be writable.")
    ] = Path("/var/lib/pentimento/model-server")
    store: Annotated[
        Path | None, Field(description="Folder of model archives; empty: the project's own, built at the start.")
    ] = None
    model_api: Annotated[
        bool, Field(description="Let whoever has the management key load other versions (`promote`, `watch`).")
    ] = False
    workers: Annotated[int, Field(ge=1, description="Workers of each model.")] = 1
    inference_port: Annotated[
        int, Field(ge=0, le=65535, description="TorchServe's own port, on loopback; 0 takes a free one.")
    ] = 0
    management_port: Annotated[
        int, Field(ge=0, le=65535, description="The same of its management API, for a `watch` beside it.")
    ] = 0
    metrics_port: Annotated[int, Field(ge=0, le=65535, description="The same of its metrics.")] = 0


class WatchSettings(Section):
    every_s: Annotated[float, Field(gt=0, description="Seconds between two looks at a version that was promoted.")] = 1
    probe_timeout_s: Annotated[
        float, Field(gt=0, description="Time for the answer to the picture it is tried with.")
    ] = 5
    failures: Annotated[int, Field(ge=1, description="Such tries in a row that fail, and it is rolled back.")] = 3
    error_share: Annotated[
        float, Field(ge=0, le=1, description="Share of requests with a server's error beyond which it is rolled back.")
    ] = 0.05
    slower: Annotated[
        float, Field(ge=1, description="Times the latency from before beyond which it is rolled back.")
    ] = 2.0
    requests: Annotated[int, Field(ge=1, description="Requests from which on the two count.")] = 30
    drift: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Change of the share of `manipulated`, of `inconclusive`, or of the mean flagged area beyond "
            "which it is rolled back.",
        ),
    ] = 0.15
    verdicts: Annotated[int, Field(ge=1, description="Verdicts, before and after, from which on drift counts.")] = 50


class ShadowSettings(Section):
    version: Annotated[
        str | None,
        Field(
            description="Version of the single-image model's archive, loaded beside the one that serves (`promote "
            "--shadow`), that judges a share of uploads too; its word is recorded and never published. Empty: none."
        ),
    ] = None
    share: Annotated[float, Field(ge=0, le=1, description="Share of the uploads that it judges, by their content.")] = (
        0.1
    )
    in_flight: Annotated[int, Field(ge=1, description="Uploads at once; what comes meanwhile it does not judge.")] = 1


class IntakeSettings(Section):
    max_bytes: Annotated[int, Field(gt=0, description="Largest image file.")] = 30_000_000
    max_pixels: Annotated[int, Field(gt=0, le=89_000_000, description="Largest picture, checked before decoding.")] = (
        64_000_000
    )
    inline_max_bytes: Annotated[int, Field(gt=0, description="Largest image inside an event.")] = 512_000
    decode_workers: Annotated[
        int,
        Field(
            ge=1,
            description="Processes that decode; a crash there harms nobody. As many again prepare originals, and give "
            "way to them.",
        ),
    ] = 1
    decode_timeout_s: Annotated[float, Field(gt=0, description="Time for one picture before it is refused.")] = 30
    prepare_lease_s: Annotated[
        float, Field(gt=0, description="After so long an original that a dead worker was preparing is taken up again.")
    ] = 300
    allowed_hosts: Annotated[
        tuple[str, ...], Field(description="Hosts that URLs may name, `*.example.com` included. Empty: no URLs at all.")
    ] = ()
    fetch_timeout_s: Annotated[float, Field(gt=0, description="Total time for one URL, redirects included.")] = 20
    max_distance: Annotated[
        int, Field(ge=0, le=256, description="PDQ Hamming distance up to which a picture is verified as a candidate.")
    ] = 90
    orientations: Annotated[
        int,
        Field(
            ge=1,
            le=8,
            description="Orientations in which originals are sought: 1 as it is, 2 mirrored too, 4 upside down too, "
            "8 quarter turns too. More find more, cost a search each, and bring more strangers to verify.",
        ),
    ] = 2
    hashes_in_memory: Annotated[
        int,
        Field(
            ge=0,
            le=50_000_000,
            description="Trusted originals whose hashes each `intake` process keeps and looks at one by one, so that "
            "none is missed: some 50 bytes and 5 ns each. With more originals, and with 0, the database's graph "
            "answers alone, which misses some that are edited much.",
        ),
    ] = 2_000_000
    max_candidates: Annotated[int, Field(ge=1, le=50, description="Candidates verified per upload.")] = 5
    min_inliers: Annotated[int, Field(ge=4, description="Feature matches that make a candidate.")] = 12
    register_uploads: Annotated[bool, Field(description="Accepted uploads become candidates for later ones.")] = True
    index_stale_s: Annotated[
        float,
        Field(gt=0, description="`intake` is not ready (INDEX-STALE) while an original waits longer to be registered."),
    ] = 60


class LateSettings(Section):
    uploads_per_s: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Earlier uploads a second, all tenants and workers together, that are judged again because of "
            "an original that came after them. 0 holds them back in their queue.",
        ),
    ] = 2
    max_uploads: Annotated[
        int, Field(ge=1, le=1_000_000, description="Earlier uploads that one original has judged again at most.")
    ] = 1000
    lease_s: Annotated[
        float, Field(gt=0, description="After so long an upload that a dead worker had in work is taken up again.")
    ] = 120


class RejudgeSettings(Section):
    uploads_per_s: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description="Earlier uploads a second that `pentimento rejudge` has judged again, all workers together, "
            "where it was not given a rate. 0 holds every run back.",
        ),
    ] = 1
    max_lag: Annotated[
        int,
        Field(ge=0, description="None is judged again while more messages than that wait for `intake` and `judge`."),
    ] = 10
    lease_s: Annotated[
        float, Field(gt=0, description="After so long an upload that a dead worker had in work is taken up again.")
    ] = 120


class StopListSettings(Section):
    flat_quality: Annotated[
        int,
        Field(
            ge=0, le=100, description="PDQ quality below which a picture is flat: no candidate but for its very bytes."
        ),
    ] = 10
    crowd: Annotated[
        int,
        Field(
            ge=0,
            description="Originals, or earlier uploads, near a picture beyond which its neighbourhood is crowded and "
            "stopped. 0 never is.",
        ),
    ] = 50
    crowd_distance: Annotated[
        int, Field(ge=0, le=256, description="PDQ Hamming distance up to which pictures count as that neighbourhood.")
    ] = 72
    copy_distance: Annotated[
        int, Field(ge=0, le=256, description="PDQ Hamming distance up to which a crowded picture still is a candidate.")
    ] = 31


class EmbedderSettings(Section):
    enabled: Annotated[
        bool,
        Field(
            description="Pictures are sought by embeddings of their parts too. `intake` then waits for the embedder as "
            "it does for the database: without it no upload is looked up."
        ),
    ] = False
    min_similarity: Annotated[
        float,
        Field(ge=0, le=1, description="Cosine similarity of two parts from which on a picture is worth verifying."),
    ] = 0.6
    places: Annotated[
        int,
        Field(
            ge=0,
            le=50,
            description="Of `PENTIMENTO_INTAKE__MAX_CANDIDATES` those that are kept for pictures that only embeddings "
            "find, where they find any. What PDQ does not need is theirs, too.",
        ),
    ] = 2
    register_uploads: Annotated[
        bool, Field(description="Keep embeddings of accepted uploads as well, for later uploads: five a picture.")
    ] = False


class WordSettings(Section):
    enabled: Annotated[
        bool,
        Field(
            description="Where nothing that was found covers most of an upload, originals are sought by visual words, "
            "too: crops, heavy edits, single objects. Originals registered before need `originals reindex --words`."
        ),
    ] = True
    places: Annotated[
        int, Field(ge=1, le=50, description="Pictures found by words that are verified, beside the candidates.")
    ] = 3
    pack: Annotated[
        bool,
        Field(
            description="`intake` packs the words of originals, once a thousand of them, and a hundredth, are not: a "
            "tenth of the disk. Releases before this one do not find what is packed."
        ),
    ] = True
    register_uploads: Annotated[
        bool,
        Field(
            description="Keep the words of uploads that nothing covers as well: some 12 kB each, packed, and 0.2 s of "
            "a core where the tenant has no originals yet. An original that comes later then has those judged again "
            "that hold a part of it, not only those that PDQ finds."
        ),
    ] = False


class StageSettings(Section):
    in_flight: Annotated[int, Field(ge=1, description="Messages of one topic that a worker works on at once.")] = 8
    retry_first_s: Annotated[float, Field(gt=0, description="First pause before a retry; doubles, with jitter.")] = 0.2
    retry_longest_s: Annotated[float, Field(gt=0, description="Longest pause before a retry.")] = 10
    retry_for_s: Annotated[
        float, Field(gt=0, description="After so long without an answer a message becomes a dead letter.")
    ] = 900
    broken_attempts: Annotated[int, Field(ge=1, description="Tries of a message that raises an unexpected error.")] = 2
    deadletter_share: Annotated[
        float, Field(gt=0, le=1, description="Share of dead letters among the last 100 messages that stops a worker.")
    ] = 0.5
    deadletter_run: Annotated[int, Field(ge=1, description="Dead letters in a row that stop a worker.")] = 20
    shutdown_grace_s: Annotated[
        float, Field(gt=0, description="Time that messages in work have when the process is told to stop.")
    ] = 25
    watchdog_s: Annotated[
        float, Field(gt=0, description="With lag and nothing finished for so long, the process ends.")
    ] = 1200


class PolicySettings(Section):
    file: Annotated[Path | None, Field(description="Policy as JSON; empty uses the built-in default.")] = None


class WebSettings(Section):
    host: Annotated[
        str, Field(description="Address to listen on. Not loopback: a token or an OpenID provider is required.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port of page and API.")] = 8600
    token: Annotated[
        SecretStr | None,
        Field(description="An administrator's bearer token, also for the login form. See docs/access.md."),
    ] = None
    public_url: Annotated[
        str | None,
        Field(description="Where browsers reach the page, `https://images.example.com`; a provider needs it."),
    ] = None
    open_on_loopback: Annotated[
        bool,
        Field(
            description="Without a token and a provider, whoever opens the loopback address is an administrator. "
            "`false`: everybody signs in, by a one-time link (`pentimento people link`)."
        ),
    ] = True
    live_connections: Annotated[
        int, Field(ge=0, le=1000, description="Browsers that may follow the live feed at once; more are turned away.")
    ] = 32


class LoginSettings(Section):
    issuer: Annotated[
        str | None, Field(description="OpenID provider that people sign in at, as its discovery document names it.")
    ] = None
    client_id: Annotated[str, Field(description="Our name there.")] = "pentimento"
    client_secret: Annotated[SecretStr | None, Field(description="Our secret there; empty: a public client.")] = None
    client_secret_file: Annotated[Path | None, Field(description="A file that holds it, instead.")] = None
    name: Annotated[str, Field(description="What the button calls the provider.")] = "OpenID Connect"
    scopes: Annotated[tuple[str, ...], Field(description="Scopes to ask for; `openid` always is.")] = (
        "openid",
        "profile",
        "email",
    )
    claim: Annotated[
        str,
        Field(description="Claim whose values give roles and tenants: text, or a list. `email` counts if verified."),
    ] = "groups"
    roles: Annotated[
        dict[str, Role],
        Field(description='Value of the claim to role, `{"trust": "moderator"}`; `*`: everybody. Else no access.'),
    ] = {}
    tenants: Annotated[
        dict[str, tuple[str, ...]],
        Field(description="Value of the claim to tenants, which add up; `*` as a tenant: all of them."),
    ] = {"*": ("default",)}
    idle_s: Annotated[float, Field(gt=0, description="A session that is not used for so long ends.")] = 3600
    session_s: Annotated[float, Field(gt=0, description="A session ends after so long in any case.")] = 43_200
    attempts: Annotated[int, Field(ge=1, description="Failed sign-ins after which an address has to wait.")] = 10
    attempts_within_s: Annotated[float, Field(gt=0, description="Within so long; and it waits until that is over.")] = (
        300
    )


class LimitSettings(Section):
    per_person: Annotated[
        float,
        Field(ge=0, description="Requests a second that a person or token may make, on average. 0: any number."),
    ] = 50
    per_address: Annotated[
        float, Field(ge=0, description="The same for an address, before anybody has said who they are. 0: any number.")
    ] = 100
    burst_s: Annotated[
        float, Field(gt=0, description="Requests of so many seconds may come at once after a time of silence.")
    ] = 20
    loopback: Annotated[
        bool, Field(description="Whether requests from this machine itself are limited, too (bulk uploads, demo).")
    ] = False


class WebhookSettings(Section):
    keys: Annotated[
        tuple[SecretStr, ...],
        Field(
            description="Fernet keys that seal webhook secrets: the first seals, all open. Empty: no webhook can be "
            "registered and none is served."
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Field(description="Hosts that webhooks may be sent to, `*.example.com` included. Empty: none at all."),
    ] = ()
    allowed_networks: Annotated[
        tuple[str, ...], Field(description="Private networks that those hosts may lie in all the same.")
    ] = ()
    ports: Annotated[tuple[int, ...], Field(description="Ports that a webhook's URL may name.")] = (443,)
    allow_http: Annotated[bool, Field(description="Allow receivers without TLS (tests, loopback).")] = False
    ca_file: Annotated[
        Path | None, Field(description="PEM bundle that signs the receivers' certificates; empty: the usual ones.")
    ] = None
    in_web: Annotated[
        bool,
        Field(description="The web process sends them. False: only `python -m services.webhooks` does."),
    ] = True
    timeout_s: Annotated[float, Field(gt=0, description="Time for a receiver to answer.")] = 10
    in_flight: Annotated[int, Field(ge=1, le=16, description="Deliveries at once per process.")] = 16
    per_webhook: Annotated[
        int, Field(ge=1, description="Deliveries to one webhook at once, by all processes together.")
    ] = 4
    lease_s: Annotated[
        float,
        Field(gt=0, description="After so long a delivery that a dead process had in work goes to another one."),
    ] = 60
    look_s: Annotated[float, Field(gt=0, description="Between two looks at an empty queue.")] = 0.5
    retry_first_s: Annotated[float, Field(gt=0, description="First pause before a retry; doubles, with jitter.")] = 5
    retry_longest_s: Annotated[float, Field(gt=0, description="Longest pause before a retry.")] = 14_400
    give_up_s: Annotated[
        float, Field(gt=0, description="A delivery that fails when it is so old becomes a dead letter.")
    ] = 86_400
    old_secret_s: Annotated[float, Field(ge=0, description="How long a secret stays valid after it was replaced.")] = (
        86_400
    )
    keep_s: Annotated[
        float, Field(gt=0, description="How long deliveries that are settled, dead letters too, are kept.")
    ] = 2_592_000

    @model_validator(mode="after")
    def _a_lease_outlives_an_attempt(self) -> WebhookSettings:
        if self.lease_s <= self.timeout_s:
            raise ValueError("lease_s must be longer than timeout_s, or every slow delivery is sent twice")
        return self


class ReviewSettings(Section):
    lock_s: Annotated[float, Field(gt=0, description="A case that nobody works on for so long is free again.")] = 300
    heartbeat_s: Annotated[
        float, Field(gt=0, description="How often a page says that somebody works on its case; well below the above.")
    ] = 30
    undo_s: Annotated[
        float, Field(ge=0, description="Time in which a decision can be undone, before it is published.")
    ] = 10
    skip_s: Annotated[float, Field(ge=0, description="A skipped case is not offered to the same person before.")] = 3600
    bulk_members: Annotated[
        int, Field(ge=1, description="Uploads of a case that a moderator decides at once; leads have no limit.")
    ] = 50
    honeypot_share: Annotated[
        float, Field(ge=0, le=1, description="Share of cases with a known answer, where there are any.")
    ] = 0.02
    second_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of cases that two people decide without seeing each other; a lead where they disagree. "
            "Needs two moderators at least.",
        ),
    ] = 0
    cases_a_day: Annotated[
        int, Field(ge=0, description="Cases that a person is shown in a day (UTC); 0: no limit.")
    ] = 0
    minutes_a_day: Annotated[
        float, Field(ge=0, description="Minutes that a person has cases before them in a day (UTC); 0: no limit.")
    ] = 0
    blur: Annotated[bool, Field(description="Pictures are blurred until somebody looks; each can choose.")] = True
    greyscale: Annotated[bool, Field(description="Pictures are shown without colours; each can choose.")] = False
    opacity: Annotated[float, Field(ge=0, le=1, description="How opaque the mask lies on the picture.")] = 0.6
    theme: Annotated[
        Literal["system", "light", "dark"], Field(description="Light or dark pages, or as the system says.")
    ] = "system"


class TenantRetention(Section):
    """What a tenant has of its own; None: as everybody."""

    pictures_days: Annotated[int | None, Field(ge=0)] = None
    masks_days: Annotated[int | None, Field(ge=0)] = None
    verdicts_days: Annotated[int | None, Field(ge=0)] = None
    samples_days: Annotated[int | None, Field(ge=0)] = None


class RetentionSettings(Section):
    pictures_days: Annotated[
        int,
        Field(
            ge=0,
            description="Days that an uploaded picture is kept, with its fingerprint, mask and annotations, after it "
            "came for the last time; then `pentimento retain` removes it. 0: for ever.",
        ),
    ] = 0
    masks_days: Annotated[int, Field(ge=0, description="Days that the masks of verdicts are kept. 0: for ever.")] = 0
    verdicts_days: Annotated[
        int,
        Field(
            ge=0,
            description=f"Days that verdicts are kept, {LEAST_VERDICT_DAYS} at least: Kafka must have forgotten the "
            "upload. Pictures are kept no longer. 0: for ever.",
        ),
    ] = 0
    samples_days: Annotated[
        int,
        Field(
            ge=0,
            description="Days that pictures are kept that became samples of the learning loop, where those are more. "
            "0: as long as other pictures.",
        ),
    ] = 0
    events_days: Annotated[
        int,
        Field(
            ge=0,
            description="Days that Kafka keeps messages at most, of all tenants, on topics that `pentimento prepare` "
            "or the chart makes. 0: what each topic has (docs/events.md).",
        ),
    ] = 0
    tenants: Annotated[
        dict[str, TenantRetention],
        Field(description='What some tenants have instead, `{"acme": {"pictures_days": 30}}`.'),
    ] = {}

    @model_validator(mode="after")
    def _verdicts_outlive_their_uploads_on_kafka(self) -> RetentionSettings:
        for name, keep in [("", self.of("")), *((tenant, self.of(tenant)) for tenant in self.tenants)]:
            if 0 < keep.verdicts_days < LEAST_VERDICT_DAYS:
                text = f"verdicts_days must be {LEAST_VERDICT_DAYS} at least, or 0{f' (tenant {name})' if name else ''}"
                raise ValueError(text)
        return self

    def of(self, tenant: str) -> Keep:
        """What holds for a tenant."""
        own = self.tenants.get(tenant, TenantRetention()).model_dump(exclude_none=True)
        return Keep(**{**self.model_dump(exclude={"tenants", "events_days"}), **own})


class TelemetrySettings(Section):
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Field(description="Least level logged.")] = (
        "info"
    )
    otlp_endpoint: Annotated[str | None, Field(description="OTLP/HTTP collector; empty sends no traces.")] = None
    trace_file: Annotated[Path | None, Field(description="Also append finished spans as JSON lines.")] = None
    host: Annotated[str, Field(description="Address of a worker's health and metrics endpoint.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port of it; 0 takes a free one and logs it.")] = 0


class Settings(BaseSettings):
    """Everything that a process may be told. Frozen; an unknown name inside a section is an error at start."""

    model_config = SettingsConfigDict(
        env_prefix="PENTIMENTO_", env_nested_delimiter="__", frozen=True, extra="ignore", env_file_encoding="utf-8"
    )

    source: Annotated[str, Field(description="`ce_source` of our events: a URI reference.")] = "/pentimento"
    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    objects: ObjectSettings = ObjectSettings()
    models: ModelSettings = ModelSettings()
    serving: ServingSettings = ServingSettings()
    model_server: ModelServerSettings = ModelServerSettings()
    watch: WatchSettings = WatchSettings()
    shadow: ShadowSettings = ShadowSettings()
    intake: IntakeSettings = IntakeSettings()
    late: LateSettings = LateSettings()
    rejudge: RejudgeSettings = RejudgeSettings()
    stop_list: StopListSettings = StopListSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    words: WordSettings = WordSettings()
    stage: StageSettings = StageSettings()
    policy: PolicySettings = PolicySettings()
    web: WebSettings = WebSettings()
    review: ReviewSettings = ReviewSettings()
    login: LoginSettings = LoginSettings()
    limits: LimitSettings = LimitSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


def data_dir(chosen: Path | None = None) -> Path:
    """The data folder of the embedded stack: the argument, `PENTIMENTO_DATA_DIR`, or the user's own."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    if named := os.environ.get("PENTIMENTO_DATA_DIR"):
        return Path(named).expanduser().absolute()
    return Path("~/.local/share/pentimento").expanduser()


def load_settings(data: Path | None = None) -> Settings:
    """Settings from the environment and, below it, from `settings.env` of the embedded stack in the data folder.

    Raises pydantic's ValidationError, which names each variable that does not fit.
    """
    env_file = data_dir(data) / "settings.env"
    return Settings(_env_file=env_file if env_file.is_file() else None)
