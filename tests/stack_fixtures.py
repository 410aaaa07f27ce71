"""Real components for tests: one broker, database and model server for the whole run, each started at first use.

A test that stops or kills a component makes one of its own (`Kafka(tmp_path)`), so that the others do not notice.
The calls of a component block: beside a running event loop use `asyncio.to_thread(kafka.stop)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.local.kafka import Kafka
from services.local.postgres import Postgres
from services.local.torchserve import TorchServe


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker with every topic of the topology. `kafka.bootstrap_servers` is its address."""
    broker = Kafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL with pgvector. `postgres.dsn` is an empty database; its role may create others."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def torchserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """A model server with the project's own archives: clients need `torchserve.url` and `torchserve.key_file`."""
    server = TorchServe(tmp_path_factory.mktemp("torchserve"))
    server.start()
    yield server
    server.stop()
