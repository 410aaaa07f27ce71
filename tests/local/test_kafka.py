"""The embedded broker, for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from services.core.errors import Unavailable
from services.core.topology import TOPICS, UPLOADS, VERDICTS, Topic
from services.local.kafka import Kafka
from services.local.topics import create_topics, existing_topics
from tests.local.processes import LOOPBACK_ADDRESSES, listening_addresses


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One that this module may stop and kill."""
    own = Kafka(tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    own.stop()


@asynccontextmanager
async def admin_of(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    yield admin
    await admin.close()


async def send(kafka: Kafka, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value)


async def first_value(kafka: Kafka, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        return (await consumer.getone()).value


async def partitions_and_config(kafka: Kafka, topic: Topic) -> tuple[int, dict[str, str]]:
    async with admin_of(kafka) as admin:
        described = await admin.describe_topics([topic.name])
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
    actual = {entry[0]: entry[1] for answer in answers for resource in answer.resources for entry in resource[4]}
    return len(described[0]["partitions"]), {name: actual[name] for name in topic.config()}


async def test_every_topic_of_the_topology_exists_with_its_partitions_and_configuration(broker: Kafka) -> None:
    assert existing_topics(broker.bootstrap_servers) >= TOPICS.keys()
    for topic in TOPICS.values():
        assert await partitions_and_config(broker, topic) == (topic.partitions, topic.config())


def test_making_the_topics_again_changes_nothing(broker: Kafka) -> None:
    assert create_topics(broker.bootstrap_servers) == []


async def test_a_topic_that_the_topology_changed_gets_its_new_partitions_and_configuration(broker: Kafka) -> None:
    before = Topic("grows", 1, "delete", 24, 1_000_000, "")
    after = Topic("grows", 3, "compact", None, 2_000_000, "")
    assert create_topics(broker.bootstrap_servers, [before]) == ["grows"]
    assert create_topics(broker.bootstrap_servers, [after]) == []
    assert await partitions_and_config(broker, after) == (3, after.config())


async def test_no_topic_comes_to_be_by_mistake(broker: Kafka) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, request_timeout_ms=1000) as producer:
        with pytest.raises((KafkaError, TimeoutError)):
            await producer.send_and_wait("image-uplaods", b"a slip of the pen")
    assert "image-uplaods" not in existing_topics(broker.bootstrap_servers)


def test_it_listens_on_the_loopback_address_alone(broker: Kafka) -> None:
    assert broker.pid is not None
    addresses = listening_addresses(broker.pid)
    assert addresses
    assert addresses <= LOOPBACK_ADDRESSES


async def test_messages_survive_a_stop_and_the_address_stays(broker: Kafka) -> None:
    address = broker.bootstrap_servers
    await send(broker, UPLOADS, b"kept")
    assert broker.stop()
    assert not broker.healthy
    broker.start()
    assert broker.bootstrap_servers == address
    assert await first_value(broker, UPLOADS) == b"kept"


async def test_messages_survive_a_kill(broker: Kafka) -> None:
    await send(broker, VERDICTS, b"kept")
    broker.kill()
    broker.start()
    assert await first_value(broker, VERDICTS) == b"kept"


def test_a_broker_that_is_away_is_named_with_its_address() -> None:
    with pytest.raises(Unavailable, match=r"Kafka at 127\.0\.0\.1:9 does not answer"):
        existing_topics("127.0.0.1:9")


def test_its_memory_is_bounded(broker: Kafka) -> None:
    assert broker.pid is not None
    assert b"-Xmx400m" in Path(f"/proc/{broker.pid}/cmdline").read_bytes()
