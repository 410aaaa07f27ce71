"""What the web process is made of, handed to the app's factory by whoever wires it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from services.clients.candidates import Neighbour
from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, EventSender
from services.clients.models import Models
from services.clients.objects import Objects
from services.core.events import Candidate, Fingerprint, StoredImage
from services.telemetry import Telemetry


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
    """The settings that pages and API need. `token` None admits everybody who reaches the loopback address.

    `max_bytes` limits an uploaded file, `max_pixels` what is decoded to be shown. `mask_threshold` 0..1: policy.
    `live_connections`: browsers that follow the feed at once. `index_stale_s`: how long an original may wait.
    """

    source: str
    max_bytes: int
    max_pixels: int
    mask_threshold: float
    token: str | None = None
    live_connections: int = 32
    index_stale_s: float = 60.0
    policy_version: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """The clients, opened; whoever opened them closes them. `database`: routers make clients of their own tables.

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
