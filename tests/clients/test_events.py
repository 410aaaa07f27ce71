"""Kafka from the outside: what was acknowledged is there, reading moves nobody's position, lag is the broker's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.clients.events import EventReader, EventSender, KafkaConnection
from services.core.envelope import Message, decode, encode
from services.core.errors import Broken, Unavailable
from services.core.events import VerdictReached
from services.core.topology import MESSAGE_BYTES, UPLOADS, VERDICTS
from services.local.kafka import Kafka
from tests.clients.examples import NOON, verdict

PARTITIONS = 3


@pytest.fixture
def connection(kafka: Kafka) -> KafkaConnection:
    return KafkaConnection(kafka.bootstrap_servers)


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """A topic of its own, with three partitions."""
    name = f"test-{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1)])
    await admin.close()
    return name


@pytest.fixture
async def sender(connection: KafkaConnection) -> AsyncIterator[EventSender]:
    started = EventSender(connection, timeout_s=10)
    await started.start()
    yield started
    await started.stop()


async def read_all(connection: KafkaConnection, topic: str) -> list[Message]:
    return [message async for message in EventReader(connection).read(topic, until_end=True)]


def numbered(topic: str, count: int, *, start: int = 0) -> list[Message]:
    """Messages under seven keys, so that they spread over the partitions."""
    return [Message(topic, f"key-{n % 7}".encode(), f"{n}".encode()) for n in range(start, start + count)]


async def test_an_acknowledged_event_is_there_with_key_headers_and_value(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    event = verdict()
    encoded = encode(event, source="/tests", time=NOON, trace={"traceparent": "00-1-2-01"})
    await sender.send(Message(topic, encoded.key, encoded.value, encoded.headers))
    (read,) = await read_all(connection, topic)
    assert decode(read, VerdictReached) == event
    assert (read.key, read.headers) == (encoded.key, encoded.headers)


async def test_messages_of_one_key_keep_their_order_in_one_partition(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    sent = numbered(topic, 500)
    await sender.send_many(sent)
    read = await read_all(connection, topic)
    assert len(read) == len(sent)
    for key in {message.key for message in sent}:
        of_key = [message for message in read if message.key == key]
        assert [m.value for m in of_key] == [m.value for m in sent if m.key == key]
        assert len({message.partition for message in of_key}) == 1


async def test_a_tombstone_is_a_message_without_value(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    await sender.send(Message(topic, b"key", None))
    (read,) = await read_all(connection, topic)
    assert (read.key, read.value) == (b"key", None)


async def test_an_empty_batch_is_sent_at_once(sender: EventSender) -> None:
    await sender.send_many(())


async def test_a_message_beyond_its_topics_limit_is_broken_and_harms_no_other(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    with pytest.raises(Broken, match="'much' for image-uploads has 1500204 bytes, the topic takes 1500000"):
        await sender.send_many((Message(UPLOADS, b"key", b"1"), Message(UPLOADS, b"much", bytes(MESSAGE_BYTES))))
    await sender.send(Message(topic, b"key", bytes(900_000)))
    assert [len(message.value or b"") for message in await read_all(connection, topic)] == [900_000]


async def test_a_message_that_the_broker_refuses_is_broken_and_the_next_ones_arrive(
    connection: KafkaConnection, sender: EventSender, kafka: Kafka
) -> None:
    """What an idempotent aiokafka producer cannot do: its partition would refuse everything from here on."""
    narrow = f"test-{uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(narrow, 1, 1, topic_configs={"max.message.bytes": "1000"})])
    await admin.close()
    with pytest.raises(Broken, match=r"max\.message\.bytes"):
        await sender.send(Message(narrow, b"key", bytes(5000)))
    await sender.send(Message(narrow, b"key", b"small"))
    assert [message.value for message in await read_all(connection, narrow)] == [b"small"]


async def test_a_sender_that_was_not_started_is_broken(connection: KafkaConnection) -> None:
    with pytest.raises(Broken, match="not started"):
        await EventSender(connection).send(Message(VERDICTS, b"key", b"value"))


async def test_a_missing_topic_is_unavailable(connection: KafkaConnection) -> None:
    sender = EventSender(connection, timeout_s=1)
    await sender.start()
    with pytest.raises(Unavailable, match="no-such-topic"):
        await sender.send(Message("no-such-topic", b"key", b"value"))
    with pytest.raises(Unavailable, match="no topic no-such-topic"):
        await read_all(connection, "no-such-topic")
    await sender.stop()


async def test_reading_to_the_end_leaves_out_what_comes_later(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    await sender.send_many(numbered(topic, 20))
    read = []
    async with aclosing(EventReader(connection).read(topic, until_end=True)) as messages:
        async for message in messages:
            if not read:
                await sender.send_many(numbered(topic, 20, start=100))
            read.append(int(message.value or b""))
    assert sorted(read) == list(range(20))


async def test_an_empty_topic_is_read_to_its_end_at_once(connection: KafkaConnection, topic: str) -> None:
    assert await read_all(connection, topic) == []


async def test_following_from_the_end_sees_only_what_comes_later(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    await sender.send_many(numbered(topic, 20))
    later = b""

    async def first_of_the_followed() -> Message:
        async with aclosing(EventReader(connection).read(topic, from_beginning=False)) as messages:
            return await anext(messages)

    following = asyncio.create_task(first_of_the_followed())
    while not following.done():  # until the reader is in place nothing of this is seen
        later = b"later"
        await sender.send(Message(topic, b"key", later))
    assert (await following).value == later


async def test_following_goes_on_across_batches(connection: KafkaConnection, sender: EventSender, topic: str) -> None:
    read: list[int] = []
    async with aclosing(EventReader(connection).read(topic)) as messages:
        for start in (0, 10, 20):
            await sender.send_many(numbered(topic, 10, start=start))
            read += [int((await anext(messages)).value or b"") for _ in range(10)]
    assert sorted(read) == list(range(30))


async def test_lag_is_what_a_group_has_not_committed_yet(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    await sender.send_many(numbered(topic, 60))
    per_partition = {
        (topic, number): sum(message.partition == number for message in await read_all(connection, topic))
        for number in range(PARTITIONS)
    }
    reader = EventReader(connection)
    assert await reader.lag("group-a", [topic]) == per_partition  # it has committed nothing yet

    await commit(connection, "group-a", TopicPartition(topic, 0), 5)
    assert await reader.lag("group-a", [topic]) == {**per_partition, (topic, 0): per_partition[topic, 0] - 5}
    assert await reader.lag("group-b", [topic]) == per_partition


async def test_measuring_lag_does_not_disturb_the_group_that_it_measures(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    await sender.send_many(numbered(topic, 10))
    member = AIOKafkaConsumer(topic, **connection.options(), group_id="group-c", auto_offset_reset="earliest")
    await member.start()
    taken = [await member.getone() for _ in range(10)]
    assignment = member.assignment()
    await member.commit()
    assert sum((await EventReader(connection).lag("group-c", [topic])).values()) == 0
    assert len(taken) == 10
    assert member.assignment() == assignment
    await member.stop()


async def test_the_oldest_waiting_message_is_the_first_that_a_group_has_not_committed(
    connection: KafkaConnection, sender: EventSender, topic: str
) -> None:
    reader = EventReader(connection)
    before = datetime.now(UTC)
    await sender.send_many(numbered(topic, 40))
    between = datetime.now(UTC)
    oldest = await reader.oldest_waiting("group-d", topic)
    assert oldest is not None
    assert before - timedelta(milliseconds=1) <= oldest <= between
    ends = Counter(message.partition for message in await read_all(connection, topic))
    for number in range(PARTITIONS):
        await commit(connection, "group-d", TopicPartition(topic, number), ends[number])
    assert await reader.oldest_waiting("group-d", topic) is None
    await sender.send(Message(topic, b"one more", b"1"))
    newest = await reader.oldest_waiting("group-d", topic)
    assert newest is not None
    assert newest >= between - timedelta(milliseconds=1)


async def commit(connection: KafkaConnection, group: str, partition: TopicPartition, offset: int) -> None:
    consumer = AIOKafkaConsumer(**connection.options(), group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([partition])
    await consumer.commit({partition: offset})
    await consumer.stop()


@pytest.fixture
async def own_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kafka]:
    """A broker that this test may kill."""
    folder: Path = tmp_path_factory.mktemp("own-kafka")
    broker = Kafka(folder)
    await asyncio.to_thread(broker.start)
    yield broker
    await asyncio.to_thread(broker.kill)


async def test_calls_fail_while_the_broker_is_away_and_work_when_it_is_back(own_broker: Kafka) -> None:
    connection = KafkaConnection(own_broker.bootstrap_servers)
    sender = EventSender(connection, timeout_s=2)
    await sender.start()
    await sender.send(Message(VERDICTS, b"key", b"before"))

    await asyncio.to_thread(own_broker.kill)
    with pytest.raises(Unavailable):
        await sender.send(Message(VERDICTS, b"key", b"during"))
    with pytest.raises(Unavailable):
        await EventSender(connection, timeout_s=2).start()
    with pytest.raises(Unavailable):
        await EventReader(connection, timeout_s=2).lag("group", [VERDICTS])
    with pytest.raises(Unavailable):
        await read_all(connection, VERDICTS)

    await asyncio.to_thread(own_broker.start)
    await sent_at_last(sender, Message(VERDICTS, b"key", b"after"))
    values = [message.value for message in await read_all(connection, VERDICTS)]
    assert values[0] == b"before"
    assert values[-1] == b"after"
    await sender.stop()


async def sent_at_last(sender: EventSender, message: Message) -> None:
    """As a stage does: again and again until it is acknowledged."""
    while True:
        try:
            return await sender.send(message)
        except Unavailable:
            continue


@pytest.mark.parametrize(
    "options",
    [
        {"security_protocol": "SASL_SSL"},
        {"security_protocol": "SASL_SSL", "username": "kim"},
        {"security_protocol": "PLAINTEXT", "username": "kim", "password": "secret"},
        {"security_protocol": "SASL_PLAINTEXT", "username": "kim", "password": "secret", "ca_file": Path("ca.pem")},
        {"security_protocol": "SSL", "certificate_file": Path("our.pem")},
        {"security_protocol": "SSL", "key_file": Path("our.key")},
        {"security_protocol": "PLAINTEXT", "certificate_file": Path("our.pem"), "key_file": Path("our.key")},
    ],
)
def test_credentials_that_are_missing_or_would_go_unused_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs|would ignore"):
        KafkaConnection("127.0.0.1:1", **options)


def test_a_connection_with_tls_checks_names_and_never_prints_its_password() -> None:
    connection = KafkaConnection("b:9093", security_protocol="SASL_SSL", username="kim", password="p4ss")
    options = connection.options()
    assert options["ssl_context"].check_hostname
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert "p4ss" not in repr(connection)
