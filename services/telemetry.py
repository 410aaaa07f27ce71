"""What a process tells about itself: log lines on stdout, traces, metrics.

In: `TelemetrySettings` and the service's name, once, at the start of a process. Out: a `Telemetry`, which the stage
loop and the clients are given. `tracing.py` and `metrics.py` have the names; `docs/observability.md` lists them.

A log line is one JSON object: timestamp (ISO, UTC), level, event, service, pid, trace_id inside of a span, then what
the caller added. Whatever logs through the standard library (Faust, aiokafka, aiohttp) comes out in the same form.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import PurePath
from typing import Any, TextIO
from uuid import UUID

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Tracer

from services import tracing
from services.clients.breaker import Circuit
from services.core.envelope import Message
from services.metrics import Metrics
from services.settings import TelemetrySettings

TEXT_CHARACTERS = 8_000
"""Longest text in a log line; anything longer is cut, so that no payload gets in by way of an error's message."""

TALKATIVE = ("httpx", "httpcore", "urllib3", "faust", "mode")
"""Libraries that write a line per request or internal service at level info, where our own lines say what matters."""

EventDict = MutableMapping[str, Any]


@dataclass(slots=True)
class Stopwatch:
    """The time that a stage took: `seconds` is right once the stage's block is left."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Traces and metrics of one process. `close()` sends what is not sent yet."""

    service: str
    provider: TracerProvider
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("pentimento")

    def inject(self) -> dict[str, str]:
        """See `tracing.inject`."""
        return tracing.inject()

    def extract(self, headers: Iterable[tuple[str, bytes]]) -> Context:
        """See `tracing.extract`."""
        return tracing.extract(headers)

    @contextmanager
    def span_process(self, topic: str, message: Message, group: str) -> Iterator[Span]:
        """See `tracing.span_process`."""
        with tracing.span_process(self.tracer, topic, message, group) as span:
            yield span

    @contextmanager
    def span_send(self, topic: str, *, key: bytes | None = None, message_id: str | None = None) -> Iterator[Span]:
        """See `tracing.span_send`."""
        with tracing.span_send(self.tracer, topic, key=key, message_id=message_id) as span:
            yield span

    @contextmanager
    def stage(self, name: str) -> Iterator[Stopwatch]:
        """One stage's work on one image: a span, and a time for `pentimento_stage_seconds` and the event's timings."""
        stopwatch = Stopwatch()
        started = time.perf_counter()
        with tracing.span_stage(self.tracer, name):
            try:
                yield stopwatch
            finally:
                stopwatch.seconds = time.perf_counter() - started
                self.metrics.stage_seconds.labels(name).observe(stopwatch.seconds, self.exemplar())

    def exemplar(self) -> dict[str, str] | None:
        """What leads from an observation to the trace that it was made in; None outside of any span."""
        trace_id = tracing.current_trace_id()
        return None if trace_id is None else {"trace_id": trace_id}

    def retried(self, dependency: str) -> None:
        """Count a repeated call (`Watch.on_retry` of a client)."""
        self.metrics.retries.labels(dependency).inc()

    def circuit_changed(self, dependency: str, circuit: Circuit) -> None:
        """Show a circuit's state (`Watch.on_circuit` of a client) and log the change."""
        self.metrics.circuit_open.labels(dependency).set(0 if circuit is Circuit.CLOSED else 1)
        structlog.get_logger("pentimento").warning("circuit", dependency=dependency, circuit=str(circuit))

    def close(self) -> None:
        """Send the remaining spans and let go of files and threads."""
        self.provider.shutdown()


def configure(settings: TelemetrySettings, service: str, *, stream: TextIO | None = None) -> Telemetry:
    """Set up the whole process: logging to `stream` (default: stdout as it is now), traces and metrics."""
    configure_logging(settings.log_level, service, stream=stream or sys.stdout)
    return open_telemetry(settings, service)


def open_telemetry(settings: TelemetrySettings, service: str) -> Telemetry:
    """Traces and metrics only; logging stays as it is. For tests and for programs that have their own logging."""
    provider = tracing.open_provider(
        service, version("pentimento"), otlp_endpoint=settings.otlp_endpoint, trace_file=settings.trace_file
    )
    return Telemetry(service, provider)


def configure_logging(level: str, service: str, *, stream: TextIO) -> None:
    """Route structlog and the standard library's logging to `stream` as JSON lines, from `level` up.

    Replaces the root logger's handlers. `stream` is kept, so that a library that redirects stdout into logging (Faust's
    worker does) causes no loop.
    """

    def identify(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.update(service=service, pid=os.getpid())
        if (trace_id := tracing.current_trace_id()) is not None:
            event["trace_id"] = trace_id
        return event

    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        identify,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _in_reading_order,
                structlog.processors.JSONRenderer(default=_printable),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _in_reading_order(_logger: object, _method: str, event: EventDict) -> EventDict:
    """The fixed fields first, long texts cut."""
    fixed = ("timestamp", "level", "event", "service", "pid", "trace_id")
    ordered = {name: event[name] for name in fixed if name in event}
    ordered.update((name, value) for name, value in event.items() if name not in ordered)
    return {name: _cut(value) if isinstance(value, str) else value for name, value in ordered.items()}


def _printable(value: object) -> str:
    """What stands in a log line for a value that JSON does not know.

    Bytes are never written out, nor is any object whose text may hold some (an event with an inline image does).
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime | UUID | PurePath | Exception):
        return _cut(str(value))
    return f"<{type(value).__qualname__}>"


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]}... ({len(text)} characters)"
