"""What the web process is made of, handed to the app's factory by whoever wires it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.clients.audit import Audit
from services.clients.candidates import Neighbour
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.models import Models
from services.clients.objects import Objects
from services.clients.oidc import Provider
from services.core.access import ClaimRules
from services.core.events import Candidate, Fingerprint, StoredImage
from services.core.policy import DEFAULT_POLICY, Policy
from services.settings import LimitSettings, ReviewSettings, WebhookSettings
from services.telemetry import Telemetry

NO_RULES = ClaimRules("groups", {}, {})


@dataclass(frozen=True, slots=True)
class SignInOptions:
    """How people come in. `open_on_loopback` admits whoever reaches the loopback address, as long as there is neither a
    token nor a `provider`. `public_url` is where browsers reach us, `https://images.example.com`. `idle` and `lasts`
    end a session, `attempts` within `attempts_within` make an address wait."""

    open_on_loopback: bool = True
    public_url: str | None = None
    provider: Provider | None = None
    provider_name: str = "OpenID Connect"
    claims: ClaimRules = NO_RULES
    idle: timedelta = timedelta(hours=1)
    lasts: timedelta = timedelta(hours=12)
    attempts: int = 10
    attempts_within: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Sought:
    """What a picture turned out to be near to: `near` by its hash alone, `candidates` as lookup confirmed them.

    The picture itself is not stored: `image` says what it is, and where it would lie.
    """

    image: StoredImage
    fingerprint: Fingerprint
    near: tuple[Neighbour, ...]
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


Seek = Callable[[str, bytes], Awaitable[Sought]]
"""A tenant and the bytes of a file that somebody wants to find. Raises Rejected for what is no picture to look at."""


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that pages and API need. `token` is an administrator's bearer token, for programs and the login.

    `max_bytes` limits an uploaded file, `max_pixels` what is decoded to be shown. `policy` is the one in force.
    `live_connections`: browsers that follow the feed at once. `index_stale_s`: how long an original may wait.
    """

    source: str
    max_bytes: int
    max_pixels: int
    token: str | None = None
    live_connections: int = 32
    index_stale_s: float = 60.0
    policy: Policy = DEFAULT_POLICY
    review: ReviewSettings = field(default_factory=ReviewSettings)
    sign_in: SignInOptions = SignInOptions()
    limits: LimitSettings = field(default_factory=LimitSettings)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)


@dataclass(frozen=True, slots=True)
class Parts:
    """The clients, opened; whoever opened them closes them. `database`: routers make the clients of their own tables,
    but for the audit log, which is one, so that entries can share transactions.

    Without `seek` nothing is found by a picture; without `models` nobody says what serves.
    """

    database: Database
    verdicts: Verdicts
    objects: Objects
    sender: EventSender
    reader: EventReader
    telemetry: Telemetry
    now: Callable[[], datetime]
    seek: Seek | None = None
    models: Models | None = None
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "audit", Audit(self.database))
