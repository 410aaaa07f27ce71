"""Faust, as little of it as possible: a group's topics become agents that hand raw messages to their stages.

In: a group and a stage per topic. Out: a `StreamApp`. What Faust does badly (decoding, exceptions, tables, web) stays
out of it; see `stage.py` for why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import faust

from services.core.envelope import Message, as_headers
from services.core.topology import Group
from services.opening import kafka_connection
from services.settings import KafkaSettings, StageSettings
from services.stream import exits
from services.stream.stage import Stage
from services.stream.window import Window

LONGEST_WORK_S = 3600.0  # Kafka may not throw a worker out for one slow message; the watchdog is the judge of that


class StreamApp:
    """A group's Faust app: one agent a topic, concurrency 1, messages acknowledged in order when they are over."""

    def __init__(
        self, group: Group, stages: Mapping[str, Stage[Any]], *, kafka: KafkaSettings, settings: StageSettings
    ) -> None:
        self._settings = settings
        self._windows: list[Window] = []
        self.faust = _faust_app(group, kafka, settings)
        for name in group.reads:
            self._consume(name, stages[name])

    async def start(self) -> None:
        """Joins the group. Messages come as soon as the broker has assigned partitions."""
        await self.faust.start()

    async def crashed(self) -> BaseException | None:
        """Waits until Faust has stopped by itself; the reason, where it gives one."""
        await self.faust.wait_until_stopped()
        reason: BaseException | None = self.faust.crash_reason
        return reason

    async def stop(self) -> None:
        """Finishes what is in work, commits, and leaves the group. Ends the process where that takes too long."""
        grace_s = self._settings.shutdown_grace_s
        if not all(await asyncio.gather(*(window.close(grace_s) for window in self._windows))):
            exits.abort(exits.STOPPED_IN_WORK, "told to stop with messages in work; they will be redelivered")
        await self.faust.stop()

    def assigned(self) -> bool:
        """Whether the broker has given this process partitions to read."""
        return bool(self.faust.consumer.assignment())

    def _consume(self, name: str, stage: Stage[Any]) -> None:
        window = Window(self._settings.in_flight)
        self._windows.append(window)
        topic = self.faust.topic(name, key_serializer="raw", value_serializer="raw", internal=False)

        @self.faust.agent(topic, name=f"{self.faust.conf.id}-{name}", concurrency=1)
        async def consume(stream: Any) -> None:
            unacknowledged = stream.noack()
            async for event in unacknowledged.events():
                message = _message(event.message)
                await window.admit(partial(stage.run, message), partial(unacknowledged.ack, event))


def _faust_app(group: Group, kafka: KafkaSettings, settings: StageSettings) -> faust.App:
    return faust.App(
        group.consumer_group,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        store="memory://",
        web_enabled=False,
        processing_guarantee="at_least_once",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=settings.in_flight * 4,
        broker_max_poll_interval=LONGEST_WORK_S,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.session_timeout_s / 5,
        broker_commit_interval=0.5,
        broker_commit_livelock_soft_timeout=LONGEST_WORK_S,
        stream_buffer_maxsize=settings.in_flight * 4,
        stream_wait_empty=False,
        stream_processing_timeout=LONGEST_WORK_S,
        worker_redirect_stdouts=False,
    )


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
    context = kafka_connection(kafka).tls()  # the same as everything else that speaks to the brokers
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
