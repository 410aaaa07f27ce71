"""CloudEvents 1.0 in Kafka's binary mode: an event to (key, value, headers) and back.

In: an event and who sends it. Out: what a Kafka producer takes. The value is the event's JSON; `ce_*` headers carry the
attributes; exactly one `traceparent` header carries the W3C trace context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from services.core.events import EVENTS, Event

CONTENT_TYPE = "application/json"
TYPES: dict[str, type[Event]] = {event.ce_type: event for event in EVENTS}

E = TypeVar("E", bound=Event)
Headers = tuple[tuple[str, bytes], ...]


class Undecodable(Exception):
    """A message that is no event of the expected type. The text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """What goes to, or came from, one place in a Kafka topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int = 0
    offset: int = 0

    def header(self, name: str) -> bytes | None:
        """The last header of that name, as Kafka clients read it."""
        found = [value for key, value in self.headers if key == name]
        return found[-1] if found else None

    def sent_at(self) -> datetime | None:
        """When the event happened, by its `ce_time`; None where that is missing or no time with a zone."""
        text = (self.header("ce_time") or b"").decode(errors="replace")
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            return None
        return time if time.tzinfo is not None else None


def encode(event: Event, *, source: str, time: datetime, trace: Mapping[str, str] | None = None) -> Message:
    """The Kafka message of an event. `source` is a URI reference, `trace` a W3C carrier with `traceparent`."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": event.event_id(),
        "ce_source": source,
        "ce_type": event.ce_type,
        "ce_time": time.isoformat(),
        "ce_subject": event.key(),
        "content-type": CONTENT_TYPE,
        **{name: value for name, value in (trace or {}).items() if name in ("traceparent", "tracestate")},
    }
    headers = tuple((name, value.encode()) for name, value in attributes.items())
    return Message(event.topic, event.key().encode(), event.to_bytes(), headers)


def decode(message: Message, expected: type[E]) -> E:
    """The event in a message. Raises Undecodable, with the reason, for anything else."""
    if message.value is None:
        raise Undecodable("the message has no value (a tombstone)")
    announced = message.header("ce_type")
    if announced is not None and announced.decode(errors="replace") != expected.ce_type:
        raise Undecodable(f"ce_type is {announced.decode(errors='replace')!r}, expected {expected.ce_type!r}")
    try:
        return expected.model_validate_json(message.value)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors()[:5])
        raise Undecodable(f"not a {expected.__name__}: {faults}") from error


def as_headers(pairs: Iterable[tuple[str, bytes]] | None) -> Headers:
    """Kafka clients' header lists as a tuple, with missing values as empty bytes."""
    return tuple((name, value or b"") for name, value in (pairs or ()))
