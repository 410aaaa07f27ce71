"""What the web process is made of, handed to the app's factory by whoever wires it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.clients.audit import Audit
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.objects import Objects
from services.clients.oidc import Provider
from services.core.access import ClaimRules
from services.core.policy import DEFAULT_POLICY, Policy
from services.settings import ReviewSettings
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
class Options:
    """The settings that pages and API need. `token` is an administrator's bearer token, for programs and the login.

    `max_bytes` limits an uploaded file, `max_pixels` what is decoded to be shown. `mask_threshold` 0..1: policy.
    """

    source: str
    max_bytes: int
    max_pixels: int
    mask_threshold: float
    token: str | None = None
    sign_in: SignInOptions = SignInOptions()
    policy: Policy = DEFAULT_POLICY
    review: ReviewSettings = field(default_factory=ReviewSettings)


@dataclass(frozen=True, slots=True)
class Parts:
    """The clients, opened; whoever opened them closes them. `database`: routers make the clients of their own tables,
    but for the audit log, which is one, so that entries can share transactions."""

    database: Database
    verdicts: Verdicts
    objects: Objects
    sender: EventSender
    reader: EventReader
    telemetry: Telemetry
    now: Callable[[], datetime]
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "audit", Audit(self.database))
