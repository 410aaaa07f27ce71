"""Kafka: sending events with the broker's acknowledgement, reading a topic without a consumer group, measuring lag.

In: `envelope.Message`. Out: the same, and `Unavailable` or `Broken` when something goes wrong. The workers read
through Faust; everything else that touches Kafka is here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.codec import has_lz4
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    MessageSizeTooLargeError,
    ProducerClosed,
)

from services.core.envelope import Message, as_headers
from services.core.errors import Broken, PentimentoError, Unavailable
from services.core.topology import MESSAGE_BYTES, TOPICS

POLL_MS = 250  # how long one fetch waits for new messages
FETCH_MESSAGES = 500
RECORD_OVERHEAD_BYTES = 200  # what a batch of one record adds to key, value and headers, amply

_PASSING = (BrokerNotAvailableError, KafkaTimeoutError, KafkaUnavailableError, ProducerClosed)


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach the brokers. Raises ValueError where credentials are missing or would go unused."""

    bootstrap_servers: str
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        sasl = self.security_protocol.startswith("SASL_")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a client certificate needs its key, and a key its certificate: set both or neither")
        if self.certificate_file is not None and not self.security_protocol.endswith("SSL"):
            raise ValueError(f"{self.security_protocol} would ignore the client certificate: choose SSL or SASL_SSL")
        if sasl and not (self.username and self.password):
            raise ValueError(f"{self.security_protocol} needs a user name and a password")
        if not sasl and (self.username or self.password):
            raise ValueError(f"{self.security_protocol} would ignore the user name: choose SASL_SSL")
        if self.ca_file is not None and not self.security_protocol.endswith("SSL"):
            raise ValueError(f"{self.security_protocol} would ignore the CA file: choose SSL or SASL_SSL")

    def options(self) -> dict[str, Any]:
        """The arguments that every aiokafka client takes to connect this way."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if (context := self.tls()) is not None:
            options["ssl_context"] = context
        if self.security_protocol.startswith("SASL_"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def tls(self) -> ssl.SSLContext | None:
        """How to encrypt: the brokers' certificates and names are checked, ours is shown where there is one. None: not.

        Raises OSError where a file is missing, or is no certificate.
        """
        if not self.security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class EventSender:
    """Sends messages and waits until all in-sync replicas have them. Usable from one event loop.

    Not an idempotent producer: aiokafka cannot begin a new epoch, so that a single message which the broker refuses
    leaves a gap in the sequence, and the partition then refuses everything until a restart. A repetition after a lost
    acknowledgement has the same event id, and order holds because one request a partition is under way at a time.
    """

    def __init__(self, connection: KafkaConnection, *, timeout_s: float = 20.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect. Raises `Unavailable` if no broker answers; may then be called again."""
        producer = AIOKafkaProducer(
            **self._connection.options(),
            acks="all",
            enable_idempotence=False,
            request_timeout_ms=round(self._timeout_s * 1000),  # then what was not delivered is dropped, not sent late
            max_request_size=max(topic.max_message_bytes for topic in TOPICS.values()),
            linger_ms=0,  # messages of one turn of the event loop share a request anyway
            compression_type="lz4" if has_lz4() else None,
        )
        try:
            async with errors_mapped("connecting", self._timeout_s):
                await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Deliver what is under way, or give it up at its deadline, and disconnect."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            await producer.stop()

    async def send(self, message: Message) -> None:
        """Send one message and wait for its acknowledgement. Its partition follows from its key.

        Raises `Unavailable` if the deadline passes (it may have arrived nevertheless), `Broken` if it is too large.
        """
        await self.send_many((message,))

    async def send_many(self, messages: Sequence[Message]) -> None:
        """Send messages together; returns when every one is acknowledged. Messages of a partition keep their order.

        On an error some of them may have arrived: send all of them again, consumers know them by their ids.
        """
        if self._producer is None:
            raise Broken("the event sender was not started")
        for message in messages:
            _check_size(message)
        topics = ", ".join(sorted({message.topic for message in messages}))
        pending: list[asyncio.Future[Any]] = []
        async with errors_mapped(f"sending to {topics}", self._timeout_s):
            try:
                for message in messages:  # one after another: this is what keeps their order
                    headers = list(message.headers)
                    pending.append(
                        await self._producer.send(message.topic, message.value, message.key, headers=headers)
                    )
                for outcome in await asyncio.gather(*pending, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
            finally:
                for acknowledgement in pending:
                    acknowledgement.cancel()  # of those still under way nobody will ask


class EventReader:
    """Reads topics from the outside: joins no group, commits nothing, moves nobody's position."""

    def __init__(self, connection: KafkaConnection, *, timeout_s: float = 20.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def read(
        self, topic: str, *, from_beginning: bool = True, until_end: bool = False
    ) -> AsyncGenerator[Message, None]:
        """The messages of a topic, in order within a partition, tombstones (value None) included.

        `until_end` stops at what was the end when reading began; otherwise new messages follow for ever. Close it
        (`contextlib.aclosing`) when you stop early. Raises `Unavailable` if the topic or the brokers are not there.
        """
        async with self._consumer() as consumer:
            async with errors_mapped(f"reading {topic}", self._timeout_s):
                partitions = await self._partitions([topic])
                ends = await _place(consumer, partitions, from_beginning=from_beginning)
            patience = _Patience(topic, self._timeout_s)
            while not (until_end and await _arrived(consumer, ends)):
                async with errors_mapped(f"reading {topic}", self._timeout_s):
                    batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=FETCH_MESSAGES)
                if until_end:
                    patience.judge(moved=bool(batches))
                for partition, records in batches.items():
                    for record in records:
                        if not until_end or record.offset < ends[partition]:
                            yield _message(record)

    async def lag(self, group: str, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Messages between a group's committed offset and the end, for each (topic, partition), at the broker itself.

        Where the group has committed nothing, all that the partition holds counts.
        """
        async with self._consumer(group) as consumer, errors_mapped(f"measuring the lag of {group}", self._timeout_s):
            partitions = await self._partitions(sorted(set(topics)))
            ends = await consumer.end_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions)
            committed = await asyncio.gather(*(consumer.committed(partition) for partition in partitions))
            return {
                (partition.topic, partition.partition): max(
                    0, ends[partition] - max(starts[partition], 0 if done is None else done)
                )
                for partition, done in zip(partitions, committed, strict=True)
            }

    async def members(self, group: str) -> int:
        """How many processes are in a consumer group now, by the broker's word; 0 where there is no such group."""
        async with errors_mapped(f"asking who is in {group}", self._timeout_s):
            admin = AIOKafkaAdminClient(**self._connection.options(), request_timeout_ms=round(self._timeout_s * 1000))
            try:
                await admin.start()
                answers = await admin.describe_consumer_groups([group])
            finally:
                await admin.close()
        described = [each for answer in answers for each in answer.to_object()["groups"]]
        return sum(len(each["members"]) for each in described)

    async def oldest_waiting(self, group: str, topic: str) -> datetime | None:
        """When the oldest message that a group has not committed was put onto a topic; None where it waits for none.

        By the messages' timestamps at the broker, to the millisecond.
        """
        async with self._consumer(group) as consumer, errors_mapped(f"reading {topic}", self._timeout_s):
            partitions = await self._partitions([topic])
            ends = await consumer.end_offsets(partitions)
            starts = await consumer.beginning_offsets(partitions)
            committed = await asyncio.gather(*(consumer.committed(partition) for partition in partitions))
            places = {p: max(starts[p], done or 0) for p, done in zip(partitions, committed, strict=True)}
            behind = [partition for partition in partitions if places[partition] < ends[partition]]
            if not behind:
                return None
            consumer.assign(behind)
            for partition in behind:
                consumer.seek(partition, places[partition])
            first: dict[TopicPartition, int] = {}
            while len(first) < len(behind):
                for partition, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    first.setdefault(partition, records[0].timestamp)
            return datetime.fromtimestamp(min(first.values()) / 1000, UTC)

    async def _partitions(self, topics: list[str]) -> list[TopicPartition]:
        """Asked of the broker: a consumer without subscription knows of no topic, or only of some."""
        admin = AIOKafkaAdminClient(**self._connection.options(), request_timeout_ms=round(self._timeout_s * 1000))
        try:
            await admin.start()
            described = await admin.describe_topics(topics)
        finally:
            await admin.close()
        if missing := sorted(topic["topic"] for topic in described if not topic["partitions"]):
            text = f"there is no topic {', '.join(missing)}: create the topics before anything reads them"
            raise Unavailable("kafka", text)
        found = {topic["topic"]: sorted(each["partition"] for each in topic["partitions"]) for topic in described}
        return [TopicPartition(topic, number) for topic in topics for number in found[topic]]

    @asynccontextmanager
    async def _consumer(self, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer without subscription. With a group's name it can look up the group's offsets, and never joins."""
        consumer = AIOKafkaConsumer(
            **self._connection.options(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # an offset out of range is an error, never a silent jump
            request_timeout_ms=round(self._timeout_s * 1000),
            max_partition_fetch_bytes=MESSAGE_BYTES,
        )
        try:
            async with errors_mapped("connecting", self._timeout_s):
                await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


@asynccontextmanager
async def errors_mapped(doing: str, timeout_s: float) -> AsyncIterator[None]:
    """Kafka's errors as ours: `Unavailable`, also after `timeout_s`, or `Broken`; `doing` says what failed."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable("kafka", f"{doing}: Kafka did not answer within {timeout_s:g} s") from error
    except (KafkaError, OSError) as error:
        raise _translated(doing, error) from error


def _translated(doing: str, error: KafkaError | OSError) -> PentimentoError:
    text = f"{doing}: {str(error) or type(error).__name__}"
    if isinstance(error, (OSError, *_PASSING)) or getattr(error, "retriable", False):
        return Unavailable("kafka", f"{text}: is Kafka up?")
    if isinstance(error, MessageSizeTooLargeError):
        return Broken(f"{text}: the topic's max.message.bytes is below what services.core.topology says")
    return Broken(text)


def _check_size(message: Message) -> None:
    """Refuse what the broker would refuse, before it takes the rest of its batch down with it."""
    topic = TOPICS.get(message.topic)
    limit = MESSAGE_BYTES if topic is None else topic.max_message_bytes
    headers = sum(len(name.encode()) + len(value) + 10 for name, value in message.headers)
    size = len(message.key or b"") + len(message.value or b"") + headers + RECORD_OVERHEAD_BYTES
    if size > limit:
        key = (message.key or b"").decode(errors="replace")
        raise Broken(f"the message {key!r} for {message.topic} has {size} bytes, the topic takes {limit}")


class _Patience:
    """Ends a reading that should get somewhere and does not: the consumer itself waits for a lost broker for ever."""

    def __init__(self, topic: str, timeout_s: float) -> None:
        self._topic = topic
        self._timeout_s = timeout_s
        self._clock = asyncio.get_running_loop().time
        self._moved_at = self._clock()

    def judge(self, *, moved: bool) -> None:
        """Raise `Unavailable` when nothing has moved for too long."""
        now = self._clock()
        if moved:
            self._moved_at = now
        elif now - self._moved_at > self._timeout_s:
            raise Unavailable("kafka", f"reading {self._topic}: nothing for {self._timeout_s:g} s, before its end")


async def _place(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], *, from_beginning: bool
) -> dict[TopicPartition, int]:
    """Put a consumer at the beginning or the end of partitions; the offsets of the end as it is now."""
    consumer.assign(partitions)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    starts = await consumer.beginning_offsets(partitions) if from_beginning else ends
    for partition in partitions:
        consumer.seek(partition, starts[partition])
    return ends


async def _arrived(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    positions = [await consumer.position(partition) for partition in ends]
    return all(position >= end for position, end in zip(positions, ends.values(), strict=True))


def _message(record: Any) -> Message:
    return Message(record.topic, record.key, record.value, as_headers(record.headers), record.partition, record.offset)
