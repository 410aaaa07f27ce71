"""What the web process is made of, handed to the app's factory by whoever wires it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.objects import Objects
from services.core.policy import DEFAULT_POLICY, Policy
from services.settings import ReviewSettings
from services.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that pages and API need. `token` None admits everybody who reaches the loopback address.

    `max_bytes` limits an uploaded file, `max_pixels` what is decoded to be shown. `policy` is the one in force.
    """

    source: str
    max_bytes: int
    max_pixels: int
    token: str | None = None
    policy: Policy = DEFAULT_POLICY
    review: ReviewSettings = field(default_factory=ReviewSettings)


@dataclass(frozen=True, slots=True)
class Parts:
    """The clients, opened; whoever opened them closes them. `database`: routers make their own tables' clients."""

    database: Database
    verdicts: Verdicts
    objects: Objects
    sender: EventSender
    reader: EventReader
    telemetry: Telemetry
    now: Callable[[], datetime]
