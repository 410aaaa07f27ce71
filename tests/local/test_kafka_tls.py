"""A broker as production has it: TLS and a password, or TLS and a client's certificate. Real sockets, real refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.clients.events import EventReader, EventSender
from services.core.envelope import Message
from services.core.errors import Unavailable
from services.core.topology import UPLOADS, Group, Topic
from services.local.kafka import Kafka, SecureListener
from services.local.ports import free_port
from services.opening import kafka_connection
from services.settings import KafkaSettings, StageSettings
from services.stream.app import StreamApp
from tests.authority import Authority, authority

USER, PASSWORD = "pentimento", "s3cret-of-a-test"
TOPIC = Topic(UPLOADS, 1, "delete", 1, 1_500_000, "One topic is enough.")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours") / "authority")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, signer: Authority) -> Iterator[Kafka]:
    """With a door that asks for TLS and a password."""
    certificate, _ = signer.issued("broker")
    door = SecureListener(free_port(), certificate, signer.certificate, user=USER, password=PASSWORD)
    server = Kafka(tmp_path_factory.mktemp("tls") / "kafka", topics=[TOPIC], secure=door)
    server.start()
    yield server
    server.stop()


def settings(broker: Kafka, signer: Authority, **changes: Any) -> KafkaSettings:
    given = {
        "bootstrap_servers": broker.secure_servers,
        "security_protocol": "SASL_SSL",
        "username": USER,
        "password": PASSWORD,
        "ca_file": signer.certificate,
        "request_timeout_s": 20,
    }
    return KafkaSettings.model_validate({**given, **changes})


@asynccontextmanager
async def sending(chosen: KafkaSettings) -> Any:
    sender = EventSender(kafka_connection(chosen), timeout_s=chosen.request_timeout_s)
    await sender.start()
    yield sender
    await sender.stop()


class Remembering:
    """A stage that keeps what comes."""

    def __init__(self) -> None:
        self.seen: list[bytes | None] = []
        self.came = asyncio.Event()

    async def run(self, message: Message) -> None:
        self.seen.append(message.value)
        self.came.set()


async def test_events_go_in_and_out_through_tls_and_a_password(broker: Kafka, signer: Authority) -> None:
    chosen = settings(broker, signer)
    async with sending(chosen) as sender:
        await sender.send(Message(UPLOADS, b"k", b"through the door", ()))
    reader = EventReader(kafka_connection(chosen))
    assert b"through the door" in [message.value async for message in reader.read(UPLOADS, until_end=True)]


async def test_a_worker_reads_through_tls_and_a_password(broker: Kafka, signer: Authority) -> None:
    chosen, stage = settings(broker, signer), Remembering()
    group = Group("intake", (UPLOADS,), (), ())
    app = StreamApp(group, {UPLOADS: stage}, kafka=chosen, settings=StageSettings())  # type: ignore[dict-item]
    async with sending(chosen) as sender:
        await sender.send(Message(UPLOADS, b"k", b"for the worker", ()))
        await app.start()
        await stage.came.wait()
        await app.stop()
    assert stage.seen[0] in (b"through the door", b"for the worker")


@pytest.mark.parametrize("wrong", ["password", "user", "authority"])
async def test_who_is_not_let_in_is_told_so(broker: Kafka, signer: Authority, tmp_path: Path, wrong: str) -> None:
    changes: dict[str, Any] = {
        "password": {"password": "not-the-password"},
        "user": {"username": "mallory"},
        "authority": {"ca_file": authority(tmp_path / "foreign").certificate},
    }[wrong]
    with pytest.raises(Unavailable) as told:
        async with sending(settings(broker, signer, request_timeout_s=10, **changes)):
            pytest.fail("it was let in")
    assert PASSWORD not in str(told.value)
    assert "not-the-password" not in str(told.value)


async def test_a_broker_that_asks_for_a_certificate_lets_in_who_has_one_of_ours(
    signer: Authority, tmp_path: Path
) -> None:
    certificate, _ = signer.issued("broker-mtls")
    ours, key = signer.issued("worker")
    stranger, strange_key = authority(tmp_path / "strangers").issued("stranger")
    door = SecureListener(free_port(), certificate, signer.certificate, protocol="SSL")
    server = Kafka(tmp_path / "kafka", topics=[TOPIC], secure=door)
    await asyncio.to_thread(server.start)
    plain: dict[str, Any] = {"security_protocol": "SSL", "username": None, "password": None, "request_timeout_s": 10}
    try:
        async with sending(settings(server, signer, **plain, certificate_file=ours, key_file=key)) as sender:
            await sender.send(Message(UPLOADS, b"k", b"certified", ()))
        for other in ({}, {"certificate_file": stranger, "key_file": strange_key}):
            with pytest.raises(Unavailable):
                async with sending(settings(server, signer, **plain, **other)):
                    pytest.fail("it was let in")
    finally:
        await asyncio.to_thread(server.stop)
