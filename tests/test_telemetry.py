"""Log lines, traces and metrics as an operator gets them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from services.clients.breaker import Circuit
from services.core.envelope import Message
from services.core.errors import Unavailable
from services.settings import TelemetrySettings
from services.telemetry import Telemetry, configure_logging, open_telemetry
from services.tracing import acknowledged, current_trace_id
from tests.clients.serving import serving

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UPLOADS, INTAKES = "image-uploads", "image-intakes"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the process writes, with logging set up as a worker has it, and put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("info", "judge", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Telemetry, Path]]:
    """Telemetry that writes spans to a file."""
    path = tmp_path / "traces" / "spans.jsonl"
    telemetry = open_telemetry(TelemetrySettings(trace_file=path), "judge")
    yield telemetry, path
    telemetry.close()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def spans_in(path: Path) -> dict[str, dict[str, Any]]:
    return {span["name"]: span for span in lines_of(path.read_text())}


def sample(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.metrics.registry.get_sample_value(name, labels)


# -- logs ---------------------------------------------------------------------------------------------------------


def test_a_log_line_is_one_json_object_with_its_fixed_fields_first(log: io.StringIO) -> None:
    structlog.get_logger("pentimento").info("handled", upload_id="u-1", ms=12.5)
    (line,) = lines_of(log.getvalue())
    assert list(line)[:5] == ["timestamp", "level", "event", "service", "pid"]
    assert (line["level"], line["event"], line["service"]) == ("info", "handled", "judge")
    assert (line["upload_id"], line["ms"]) == ("u-1", 12.5)
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC
    assert "trace_id" not in line


def test_the_standard_librarys_loggers_come_out_in_the_same_form(log: io.StringIO) -> None:
    logging.getLogger("aiokafka.consumer").warning("Heartbeat failed for group %s", "pentimento-judge")
    (line,) = lines_of(log.getvalue())
    assert line["event"] == "Heartbeat failed for group pentimento-judge"
    assert (line["logger"], line["level"], line["service"]) == ("aiokafka.consumer", "warning", "judge")


def test_a_log_line_inside_a_span_names_its_trace(log: io.StringIO, traced: tuple[Telemetry, Path]) -> None:
    telemetry, _ = traced
    with telemetry.stage("route"):
        structlog.get_logger("pentimento").info("handled")
        logging.getLogger("aiokafka").info("also handled")
        expected = current_trace_id()
    assert [line["trace_id"] for line in lines_of(log.getvalue())] == [expected, expected]


def test_image_bytes_never_reach_a_log_line(log: io.StringIO) -> None:
    class Event:
        def __str__(self) -> str:
            return "Event(data=secret-pixels)"

    picture = b"secret-pixels" * 1000
    structlog.get_logger("pentimento").info("sent", value=picture, nested={"parts": [picture]}, event_object=Event())
    (line,) = lines_of(log.getvalue())
    assert line["value"] == "<13000 bytes>"
    assert line["nested"] == {"parts": ["<13000 bytes>"]}
    assert "secret-pixels" not in log.getvalue()


def test_a_text_of_any_length_is_cut(log: io.StringIO) -> None:
    logging.getLogger("faust").error("x" * 1_000_000)
    assert len(log.getvalue()) < 10_000


def test_an_exception_is_logged_with_its_traceback_on_the_same_line(log: io.StringIO) -> None:
    try:
        raise ValueError("no such key")
    except ValueError:
        structlog.get_logger("pentimento").exception("failed", upload_id="u-1")
    (line,) = lines_of(log.getvalue())
    assert "ValueError: no such key" in line["exception"]


def test_lines_below_the_level_and_talkative_libraries_are_left_out(log: io.StringIO) -> None:
    structlog.get_logger("pentimento").debug("detail")
    logging.getLogger("httpx").info("HTTP Request: POST /predictions/constrained")
    logging.getLogger("faust.transport").info("partitions assigned")
    logging.getLogger("aiokafka").debug("detail")
    assert log.getvalue() == ""


def test_a_library_that_turns_stdout_into_logging_causes_no_loop() -> None:
    program = """
        import logging, sys, mode.utils.logging as mode
        from services.settings import TelemetrySettings
        from services.telemetry import configure
        configure(TelemetrySettings(), "intake").close()
        with mode.redirect_stdouts(severity=logging.WARNING):
            print("from a print")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (line,) = [line for line in lines_of(done.stdout) if "from a print" in line["event"]]
    assert (line["service"], line["level"]) == ("intake", "warning")


# -- traces -------------------------------------------------------------------------------------------------------


def test_the_trace_of_an_upload_goes_on_through_two_groups(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    with telemetry.span_send(UPLOADS, key=b"k", message_id="id-1") as span:
        headers = tuple((name, value.encode()) for name, value in telemetry.inject().items())
        acknowledged(span, 2, 7)
    upload = Message(UPLOADS, b"k", b"{}", (("ce_id", b"id-1"), *headers), partition=2, offset=7)
    with (
        telemetry.span_process(UPLOADS, upload, "pentimento-intake"),
        telemetry.stage("guard"),
        telemetry.span_send(INTAKES),
    ):
        headers = tuple((name, value.encode()) for name, value in telemetry.inject().items())
    with telemetry.span_process(INTAKES, Message(INTAKES, None, b"{}", headers), "pentimento-judge"):
        pass

    spans = spans_in(path)
    assert len({span["trace_id"] for span in spans.values()}) == 1
    parents = {name: span["parent_id"] for name, span in spans.items()}
    ids = {name: span["span_id"] for name, span in spans.items()}
    assert parents == {
        "send image-uploads": None,
        "process image-uploads": ids["send image-uploads"],
        "guard": ids["process image-uploads"],
        "send image-intakes": ids["guard"],
        "process image-intakes": ids["send image-intakes"],
    }


def test_a_process_span_has_the_names_of_the_messaging_conventions(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    message = Message(UPLOADS, b"tenant/u-1", b"{}", (("ce_id", b"id-1"),), partition=3, offset=41)
    with telemetry.span_process(UPLOADS, message, "pentimento-intake"):
        pass
    (span,) = lines_of(path.read_text())
    assert (span["name"], span["kind"], span["service"]) == ("process image-uploads", "consumer", "judge")
    assert span["attributes"] == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": UPLOADS,
        "messaging.destination.partition.id": "3",
        "messaging.consumer.group.name": "pentimento-intake",
        "messaging.message.id": "id-1",
        "messaging.kafka.message.key": "tenant/u-1",
        "messaging.kafka.offset": 41,
    }


def test_a_send_span_knows_where_the_broker_put_the_message(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    with telemetry.span_send(INTAKES, key=b"k", message_id="id-2") as span:
        acknowledged(span, 1, 99)
    (sent,) = lines_of(path.read_text())
    assert (sent["name"], sent["kind"]) == ("send image-intakes", "producer")
    assert sent["attributes"]["messaging.operation.type"] == "send"
    assert sent["attributes"]["messaging.destination.partition.id"] == "1"
    assert sent["attributes"]["messaging.kafka.offset"] == 99


@pytest.mark.parametrize("traceparent", [b"", b"nonsense", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_a_bad_traceparent_starts_a_new_trace(traced: tuple[Telemetry, Path], traceparent: bytes) -> None:
    telemetry, path = traced
    with telemetry.span_process(UPLOADS, Message(UPLOADS, None, b"", (("traceparent", traceparent),)), "g"):
        pass
    (span,) = lines_of(path.read_text())
    assert span["parent_id"] is None
    assert int(span["trace_id"], 16) > 0


def test_the_last_of_two_traceparents_counts_as_for_every_kafka_header(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    headers = (("traceparent", b"nonsense"), ("traceparent", TRACEPARENT.encode()))
    with telemetry.span_process(UPLOADS, Message(UPLOADS, None, b"", headers), "g"):
        carried = telemetry.inject()["traceparent"]
    (span,) = lines_of(path.read_text())
    assert (span["trace_id"], span["parent_id"]) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
    assert carried == f"00-{span['trace_id']}-{span['span_id']}-01"


def test_a_failed_message_shows_its_type_of_error_in_the_span(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    with pytest.raises(Unavailable), telemetry.span_process(UPLOADS, Message(UPLOADS, None, b""), "g"):
        raise Unavailable("models", "no worker")
    (span,) = lines_of(path.read_text())
    assert (span["status"], span["error"]) == ("error", "no worker")
    assert span["attributes"]["error.type"] == "Unavailable"


def test_outside_of_any_span_nothing_is_carried() -> None:
    assert Telemetry.inject(open_telemetry(TelemetrySettings(), "web")) == {}


def test_many_writers_of_one_trace_file_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    writers = [open_telemetry(TelemetrySettings(trace_file=path), f"worker-{number}") for number in range(4)]

    def write(telemetry: Telemetry) -> None:
        for _ in range(100):
            with telemetry.span_send("x" * 3000):
                pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, writers))
    for telemetry in writers:
        telemetry.close()
    services = [span["service"] for span in lines_of(path.read_text())]
    assert {service: services.count(service) for service in services} == {f"worker-{n}": 100 for n in range(4)}


async def test_spans_reach_an_otlp_collector_before_the_process_ends() -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    async def collect(request: web.Request) -> web.Response:
        received.append((request.path, ExportTraceServiceRequest.FromString(await request.read())))
        return web.Response()

    async with serving(collect) as url:
        telemetry = open_telemetry(TelemetrySettings(otlp_endpoint=url), "learn")
        with telemetry.span_send(INTAKES):
            pass
        await asyncio.to_thread(telemetry.close)
    ((path, request),) = received
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert named["service.name"] == "learn"
    assert resource.scope_spans[0].spans[0].name == "send image-intakes"


# -- metrics ------------------------------------------------------------------------------------------------------


def test_every_metric_has_the_name_that_the_documents_promise() -> None:
    telemetry = open_telemetry(TelemetrySettings(), "judge")
    families = {family.name for family in telemetry.metrics.registry.collect()}
    document = (Path(__file__).parents[1] / "docs" / "observability.md").read_text()
    ours = {name for name in families if name.startswith("pentimento_")}
    assert len(ours) > 30
    for name in ours:
        assert f"`{name}" in document, f"{name} is not in docs/observability.md"


def test_a_stage_is_timed_even_where_it_fails() -> None:
    telemetry = open_telemetry(TelemetrySettings(), "judge")
    with telemetry.stage("guard") as watch:
        pass
    with pytest.raises(ValueError, match="bad"), telemetry.stage("guard"):
        raise ValueError("bad")
    assert watch.seconds > 0
    assert sample(telemetry, "pentimento_stage_seconds_count", stage="guard") == 2


def test_a_circuit_shows_as_open_until_it_is_closed_again(log: io.StringIO) -> None:
    telemetry = open_telemetry(TelemetrySettings(), "judge")
    shown = []
    for circuit in (Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED):
        telemetry.circuit_changed("models", circuit)
        shown.append(sample(telemetry, "pentimento_circuit_open", dependency="models"))
    assert shown == [1, 1, 0]
    assert [line["circuit"] for line in lines_of(log.getvalue())] == ["open", "half_open", "closed"]


def test_two_telemetries_in_one_process_share_no_numbers() -> None:
    first, second = (open_telemetry(TelemetrySettings(), name) for name in ("intake", "judge"))
    first.retried("models")
    assert sample(first, "pentimento_retries_total", dependency="models") == 1
    assert sample(second, "pentimento_retries_total", dependency="models") is None
    assert b"_created" not in generate_latest(first.metrics.registry)


def test_a_stages_time_leads_to_its_trace(traced: tuple[Telemetry, Path]) -> None:
    telemetry, path = traced
    with telemetry.stage("route"):
        pass
    (span,) = lines_of(path.read_text())
    text = openmetrics(telemetry.metrics.registry).decode()
    (bucket,) = [line for line in text.splitlines() if "# {" in line and line.startswith("pentimento_stage_seconds")]
    assert f'trace_id="{span["trace_id"]}"' in bucket


def test_an_observation_outside_of_any_trace_leads_nowhere(traced: tuple[Telemetry, Path]) -> None:
    telemetry, _ = traced
    assert telemetry.exemplar() is None
