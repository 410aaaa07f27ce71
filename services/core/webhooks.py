"""Webhooks, the rules: what is sent, how it is signed, and what follows from the answer.

In: events as JSON text, secrets, answers; time and chance as arguments. Out: bodies, headers, outcomes. The body is a
CloudEvent in JSON (structured mode), the signature that of Standard Webhooks 1.0 (standardwebhooks.com), so that
receivers verify it with a library that exists.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.core.events import ReviewDecided, VerdictReached

CONTENT_TYPE = "application/cloudevents+json"
SECRET_PREFIX = "whsec_"  # noqa: S105  # what Standard Webhooks' libraries expect before the base64
SECRET_BYTES = 32
GONE = 410
THROTTLED = (429, 502, 503, 504)
"""Answers that are about the receiver as a whole: nothing else is sent to it for as long as it asks."""

FAILURES_IN_A_ROW = 5  # from here on a receiver counts as down, and is asked more and more rarely
LONGEST_HOLD_S = 60.0  # but at least so often
LONGEST_RETRY_AFTER_S = 24 * 3600.0


class EventKind(StrEnum):
    """What a webhook can be told of."""

    VERDICT = "verdict"
    REVIEW = "review"
    PING = "ping"

    @property
    def ce_type(self) -> str:
        """The CloudEvents type of such events."""
        return _TYPES[self]


_TYPES = {
    EventKind.VERDICT: VerdictReached.ce_type,
    EventKind.REVIEW: ReviewDecided.ce_type,
    EventKind.PING: "dev.pentimento.webhook.pinged.v1",
}


@dataclass(frozen=True, slots=True)
class Announced:
    """One event as it is sent. `data` is its JSON text, byte for byte as it stands in the projection."""

    kind: EventKind
    event_id: str
    tenant: str
    subject: str
    time: datetime
    data: str


def body(event: Announced, *, source: str) -> bytes:
    """The CloudEvent in JSON. The same event always has the same bytes."""
    attributes = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": source,
        "type": event.kind.ce_type,
        "time": event.time.isoformat(),
        "subject": event.subject,
        "tenant": event.tenant,
        "datacontenttype": "application/json",
    }
    head = json.dumps(attributes, separators=(",", ":"), ensure_ascii=False)
    return f'{head[:-1]},"data":{event.data}}}'.encode()


# -- signatures ----------------------------------------------------------------------------------------------------


def secret_from(random_bytes: bytes) -> str:
    """A secret as people copy it, `whsec_` and base64. Raises ValueError for fewer than 24 bytes or more than 64."""
    if not 24 <= len(random_bytes) <= 64:
        raise ValueError(f"a secret has 24 to 64 bytes, not {len(random_bytes)}")
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def signature(secret: str, event_id: str, timestamp: int, payload: bytes) -> str:
    """`v1,` and the HMAC-SHA256 over `id.timestamp.payload`. Raises ValueError for what is no secret of ours."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError("this is no webhook secret") from error
    signed = b".".join((event_id.encode(), str(timestamp).encode(), payload))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(event_id: str, payload: bytes, *, secrets: Sequence[str], at: datetime) -> dict[str, str]:
    """What goes with the body: id, seconds since 1970, and a signature with each secret that is valid now."""
    timestamp = int(at.timestamp())
    return {
        "content-type": CONTENT_TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, event_id, timestamp, payload) for secret in secrets),
    }


# -- what follows --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Retries:
    """When a delivery is tried again: after `first_s`, doubled each time up to `longest_s`, until it is `give_up_s`
    old."""

    first_s: float = 5.0
    longest_s: float = 4 * 3600.0
    give_up_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `status` None: there was no answer, and `error` says why. `retry_after_s`: what the receiver asked."""

    status: int | None
    duration_ms: float
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Later:
    """Try again after `after_s`; until `hold_s` have passed nothing else goes to the receiver either."""

    after_s: float
    hold_s: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A dead letter, for `reason`. `gone`: the receiver wants nothing any more, now or later."""

    reason: str
    gone: bool = False


Outcome = Delivered | Later | GivenUp


def outcome(
    attempt: Attempt, *, attempts: int, age_s: float, failures: int, chance: float, retries: Retries
) -> Outcome:
    """What becomes of a delivery after its `attempts`-th try. `failures`: tries in a row, of anything, that this
    receiver failed before this one; `chance` 0..1 spreads the retries of many deliveries.
    """
    if attempt.status is not None and 200 <= attempt.status < 300:
        return Delivered()
    if attempt.status == GONE:
        return GivenUp("gone", gone=True)
    if age_s >= retries.give_up_s:
        return GivenUp("status" if attempt.status is not None else "no_answer")
    asked = min(attempt.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S)
    hold = asked if attempt.status in THROTTLED else 0.0
    return Later(max(pause_s(attempts, chance, retries), asked), max(hold, _hold_s(failures + 1)))


def pause_s(attempts: int, chance: float, retries: Retries) -> float:
    """Seconds between try number `attempts` and the next, a quarter more or less by chance."""
    pause = min(retries.longest_s, retries.first_s * 2.0 ** min(attempts - 1, 40))
    return pause * (0.75 + 0.5 * chance)


def _hold_s(failures: int) -> float:
    if failures < FAILURES_IN_A_ROW:
        return 0.0
    return min(LONGEST_HOLD_S, 2.0 ** min(failures - FAILURES_IN_A_ROW, 10))
