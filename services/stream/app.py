"""Faust, as little of it as possible: a group's topics become agents that hand raw batches to their stages.

In: a group and a stage per topic. Out: a Faust app. What Faust does badly (decoding, exceptions, tables, web) stays
out of it; see `stage.py` for why.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import faust
from aiokafka.helpers import create_ssl_context

from services.core.envelope import Message, as_headers
from services.core.topology import Group
from services.settings import KafkaSettings, StageSettings
from services.stream.stage import Stage

LONGEST_BATCH_S = 3600.0  # Kafka may not throw a worker out for one slow batch; the watchdog is the judge of that


def create_app(
    group: Group, stages: Mapping[str, Stage[Any]], *, kafka: KafkaSettings, settings: StageSettings
) -> faust.App:
    """The group's Faust app: one agent a topic, concurrency 1, batches acknowledged when they are over."""
    app = faust.App(
        group.consumer_group,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        store="memory://",
        web_enabled=False,
        processing_guarantee="at_least_once",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=settings.batch_size * 4,
        broker_max_poll_interval=LONGEST_BATCH_S,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.session_timeout_s / 5,
        broker_commit_interval=0.5,
        broker_commit_livelock_soft_timeout=LONGEST_BATCH_S,
        stream_buffer_maxsize=settings.batch_size * 4,
        stream_wait_empty=False,
        stream_processing_timeout=LONGEST_BATCH_S,
        worker_redirect_stdouts=False,
    )
    for name in group.reads:
        _agent(app, name, stages[name], settings)
    return app


def _agent(app: faust.App, name: str, stage: Stage[Any], settings: StageSettings) -> None:
    topic = app.topic(name, key_serializer="raw", value_serializer="raw", internal=False)

    @app.agent(topic, name=f"{app.conf.id}-{name}", concurrency=1)
    async def consume(stream: Any) -> None:
        async for events in stream.noack_take(settings.batch_size, within=settings.batch_within_s):
            try:
                await stage.run_batch([_message(event.message) for event in events])
            except asyncio.CancelledError:  # raised when the batch is over, never in its middle
                await _acknowledge(stream, events)
                raise
            await _acknowledge(stream, events)


async def _acknowledge(stream: Any, events: Sequence[Any]) -> None:
    """Lets Faust commit a batch that is over.

    By hand, because `take` and `take_events` acknowledge the batch in work whenever the stream stops: their generator's
    `finally` does it, and `Stream.on_stop` closes the generator (faust-streaming 0.15.3). A test kills a worker there.
    """
    for event in events:
        await stream.ack(event)


def _message(raw: Any) -> Message:
    """Faust's message as ours."""
    headers = raw.headers.items() if isinstance(raw.headers, dict) else raw.headers
    return Message(
        topic=raw.topic,
        key=raw.key,
        value=raw.value,
        headers=as_headers(headers),
        partition=raw.partition,
        offset=raw.offset,
    )


def _credentials(kafka: KafkaSettings) -> Any:
    """Faust's credentials for the broker, or None where it asks for none."""
    context: ssl.SSLContext | None = None
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        context = create_ssl_context(cafile=str(kafka.ca_file) if kafka.ca_file else None)
    match kafka.security_protocol:
        case "PLAINTEXT":
            return None
        case "SSL":
            return faust.SSLCredentials(context)
        case _:
            return faust.SASLCredentials(
                username=kafka.username,
                password=kafka.password.get_secret_value() if kafka.password else None,
                mechanism=kafka.sasl_mechanism,
                ssl_context=context,
            )
