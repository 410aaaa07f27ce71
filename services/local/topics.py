"""The topics of `services.core.topology` on a broker, made before any worker starts.

In: a broker's address ("host:port", or a connection with credentials) and topics as data. Out: topics that exist, with
their partitions and configuration, and that the broker already announces to clients. Running it again changes nothing;
partitions are added, never removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from services.clients.events import KafkaConnection
from services.core.errors import Unavailable
from services.core.topology import TOPICS, Topic

REQUEST_TIMEOUT_MS = 10_000
VISIBLE_TIMEOUT_S = 20.0
REPLICAS = 3  # or as many as there are brokers
ALREADY_EXISTS = 36

R = TypeVar("R")


def create_topics(kafka: str | KafkaConnection, topics: Iterable[Topic] | None = None) -> list[str]:
    """Make the missing topics and bring the others up to date; the names of the new ones. Raises Unavailable."""
    wanted = {topic.name: topic for topic in (TOPICS.values() if topics is None else topics)}

    async def work(admin: AIOKafkaAdminClient) -> list[str]:
        created = await _create(admin, wanted)
        await _grow(admin, {name: topic for name, topic in wanted.items() if name not in created})
        await _configure(admin, {name: topic for name, topic in wanted.items() if name not in created})
        await _wait_until_visible(admin, wanted)
        return created

    return with_admin(kafka, work)


def answers(kafka: str | KafkaConnection) -> None:
    """Return when the broker answers a request for metadata. Raises Unavailable otherwise."""

    async def work(admin: AIOKafkaAdminClient) -> None:
        await admin.describe_cluster()

    with_admin(kafka, work)


def existing_topics(kafka: str | KafkaConnection) -> set[str]:
    """The names of all topics. Raises Unavailable."""

    async def work(admin: AIOKafkaAdminClient) -> set[str]:
        return set(await admin.list_topics())

    return with_admin(kafka, work)


def with_admin(kafka: str | KafkaConnection, work: Callable[[AIOKafkaAdminClient], Awaitable[R]]) -> R:
    """Run `work` with an admin client in a loop of its own: the caller may sit in another. Raises Unavailable."""

    connection = KafkaConnection(kafka) if isinstance(kafka, str) else kafka

    async def session() -> R:
        admin = AIOKafkaAdminClient(**connection.options(), request_timeout_ms=REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            return await work(admin)
        finally:
            await admin.close()

    try:
        with ThreadPoolExecutor(1, "kafka-admin") as thread:
            return thread.submit(lambda: asyncio.run(session())).result()
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable("kafka", f"Kafka at {connection.bootstrap_servers} does not answer: {error!r}") from error


async def _create(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> list[str]:
    existing = set(await admin.list_topics())
    replicas = min(REPLICAS, len((await admin.describe_cluster())["brokers"]))
    missing = [
        NewTopic(topic.name, topic.partitions, replicas, topic_configs=topic.config())
        for topic in wanted.values()
        if topic.name not in existing
    ]
    if not missing:
        return []
    response = await admin.create_topics(missing)
    for name, code, message in response.topic_errors:
        if code not in (0, ALREADY_EXISTS):  # another process may have been quicker
            raise for_code(code)(f"topic {name} cannot be made: {message}")
    return [topic.name for topic in missing]


async def _grow(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> None:
    for description in await admin.describe_topics(list(wanted)) if wanted else []:
        topic = wanted[description["topic"]]
        if len(description["partitions"]) < topic.partitions:
            await admin.create_partitions({topic.name: NewPartitions(topic.partitions)})


async def _configure(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> None:
    names = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    stale: list[Any] = []
    for response in await admin.describe_configs(names) if names else []:
        for _, _, _, name, entries in response.resources:
            actual = {entry[0]: entry[1] for entry in entries}
            if any(actual.get(key) != value for key, value in wanted[name].config().items()):
                stale.append(ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted[name].config()))
    if stale:
        await admin.alter_configs(stale)


async def _wait_until_visible(admin: AIOKafkaAdminClient, wanted: dict[str, Topic]) -> None:
    """A broker knows a new topic a moment before it tells clients who leads its partitions."""
    async with asyncio.timeout(VISIBLE_TIMEOUT_S):
        while True:
            described = await admin.describe_topics(list(wanted))
            led = {
                topic["topic"]: sum(1 for partition in topic["partitions"] if partition["leader"] >= 0)
                for topic in described
            }
            if all(led.get(name, 0) >= topic.partitions for name, topic in wanted.items()):
                return
            await asyncio.sleep(0.05)
