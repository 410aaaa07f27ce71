"""Traces: one an image, from its upload to its verdict, carried through Kafka by one `traceparent` header.

In: messages and what is done with them. Out: spans to an OTLP/HTTP collector, to a file of JSON lines, to both, or to
nobody. Names and attributes follow OpenTelemetry's messaging conventions 1.44. A `process` span is the child of the
`send` span whose context the message carries, so that the trace goes on; it is never taken from a batch.

https://opentelemetry.io/docs/specs/semconv/messaging/
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from services.core.envelope import Message

PROPAGATOR = TraceContextTextMapPropagator()
OTLP_TIMEOUT_S = 3.0
"""For one export, retries included: a collector that is away must not hold up the end of a process for longer."""


def open_provider(service: str, version: str, *, otlp_endpoint: str | None, trace_file: Path | None) -> TracerProvider:
    """A provider with the wanted exporters; the caller shuts it down. It is not made the process-wide one.

    `otlp_endpoint` is a collector's base URL; `/v1/traces` is added where it is missing.
    """
    resource = Resource.create(
        {
            "service.name": service,
            "service.version": version,
            "service.namespace": "pentimento",
            "process.pid": os.getpid(),
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    if otlp_endpoint is not None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        base = otlp_endpoint.rstrip("/")
        endpoint = base if base.endswith("/v1/traces") else f"{base}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=OTLP_TIMEOUT_S)))
    if trace_file is not None:
        # Written as each span ends, so that a killed process leaves everything it finished.
        provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(trace_file)))
    return provider


class FileSpanExporter(SpanExporter):
    """Appends one JSON line a span. Several processes may write to one file: a line is a single appending write."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            line = json.dumps(_as_json(span), separators=(",", ":")).encode() + b"\n"
            if os.write(self._file, line) != len(line):
                return SpanExportResult.FAILURE  # the disk is full
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        os.close(self._file)


def inject() -> dict[str, str]:
    """The W3C carrier of the current span, with `traceparent`; empty outside of any span."""
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier)
    return carrier


def extract(headers: Iterable[tuple[str, bytes]]) -> Context:
    """The context that a message's headers carry. Without a valid `traceparent`, one that starts a new trace."""
    carrier = {
        name: value.decode("ascii", errors="replace")
        for name, value in headers
        if name in ("traceparent", "tracestate")
    }
    return PROPAGATOR.extract(carrier, Context())


def current_trace_id() -> str | None:
    """The current trace's id, 32 hexadecimal digits, or None outside of any span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


@contextmanager
def span_process(tracer: Tracer, topic: str, message: Message, group: str) -> Iterator[Span]:
    """The span `process <topic>` around the handling of one message by the consumer group `group`."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(message.partition),
        "messaging.consumer.group.name": group,
        "messaging.kafka.offset": message.offset,
        **_identity(message.key, message.header("ce_id")),
    }
    if message.value is None:
        attributes["messaging.kafka.message.tombstone"] = True
    with _span(tracer, f"process {topic}", SpanKind.CONSUMER, attributes, extract(message.headers)) as span:
        yield span


@contextmanager
def span_send(tracer: Tracer, topic: str, *, key: bytes | None = None, message_id: str | None = None) -> Iterator[Span]:
    """The span `send <topic>` around the sending of one message and its acknowledgement. `inject()` belongs inside."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        **_identity(key, message_id.encode() if message_id is not None else None),
    }
    with _span(tracer, f"send {topic}", SpanKind.PRODUCER, attributes, None) as span:
        yield span


def acknowledged(span: Span, partition: int, offset: int) -> None:
    """Note on a `send` span where the broker put the message."""
    span.set_attribute("messaging.destination.partition.id", str(partition))
    span.set_attribute("messaging.kafka.offset", offset)


@contextmanager
def span_stage(tracer: Tracer, stage: str) -> Iterator[Span]:
    """The span of one stage inside a message's handling, named like the stage."""
    with _span(tracer, stage, SpanKind.INTERNAL, {"pentimento.stage": stage}, None) as span:
        yield span


@contextmanager
def _span(
    tracer: Tracer, name: str, kind: SpanKind, attributes: dict[str, AttributeValue], parent: Context | None
) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        record_exception=False,  # the log line has the traceback; here the type is enough
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except Exception as error:
            failed(span, error)
            raise


def failed(span: Span, error: BaseException) -> None:
    """Mark a span as failed; also for errors that its block handles itself."""
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, str(error)[:500]))


def _identity(key: bytes | None, message_id: bytes | None) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    if key is not None:
        found["messaging.kafka.message.key"] = key.decode(errors="replace")
    if message_id is not None:
        found["messaging.message.id"] = message_id.decode(errors="replace")
    return found


def _as_json(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    start, end = span.start_time or 0, span.end_time or 0
    return {
        "trace_id": trace.format_trace_id(context.trace_id) if context else None,
        "span_id": trace.format_span_id(context.span_id) if context else None,
        "parent_id": trace.format_span_id(span.parent.span_id) if span.parent else None,
        "name": span.name,
        "kind": span.kind.name.lower(),
        "start": datetime.fromtimestamp(start / 1e9, UTC).isoformat(timespec="microseconds"),
        "seconds": round((end - start) / 1e9, 6),
        "status": span.status.status_code.name.lower(),
        "error": span.status.description,
        "attributes": dict(span.attributes or {}),
        "service": span.resource.attributes.get("service.name"),
        "pid": span.resource.attributes.get("process.pid"),
    }
