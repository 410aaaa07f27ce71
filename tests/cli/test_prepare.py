"""`pentimento prepare` and the refusals of the model server's door: what a cluster's pods meet first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.cli.prepare import kept, scaled
from services.core import topology
from services.local.ports import free_port
from services.local.postgres import Postgres
from services.model_server import refusal
from services.settings import ModelServerSettings, ModelSettings, Settings
from tests.clients.conftest import dsn_of

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine


@pytest.fixture
def empty_dsn(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """A database that is not there yet."""
    return dsn_of(postgres, f"prepare_{abs(hash(request.node.name)):x}")


def pentimento(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **{f"PENTIMENTO_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "tests.helm.pentimento", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_pods_wait_until_somebody_has_made_the_tables(empty_dsn: str) -> None:
    away = f"127.0.0.1:{free_port()}"
    waiting = pentimento("prepare", "--check", POSTGRES__DSN=empty_dsn, KAFKA__BOOTSTRAP_SERVERS=away)
    assert (waiting.returncode, away in waiting.stderr) == (1, False)
    assert pentimento("migrate", POSTGRES__DSN=empty_dsn).returncode == 0
    waiting = pentimento("prepare", "--check", POSTGRES__DSN=empty_dsn, KAFKA__BOOTSTRAP_SERVERS=away)
    assert (waiting.returncode, away in waiting.stderr) == (1, True)


def test_brokers_that_are_away_are_told_of(empty_dsn: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    away = pentimento("prepare", POSTGRES__DSN=empty_dsn, KAFKA__BOOTSTRAP_SERVERS=address)
    assert away.returncode == 1
    assert address in away.stderr


def test_only_topics_that_are_shared_out_get_more_partitions() -> None:
    assert scaled(None) == list(topology.TOPICS.values())
    found = {topic.name: topic.partitions for topic in scaled(12)}
    assert found == {name: 12 if topic.partitions > 1 else 1 for name, topic in topology.TOPICS.items()}


def test_messages_are_kept_for_no_longer_than_the_setting_says() -> None:
    topics = list(topology.TOPICS.values())
    assert kept(topics, 0) == topics
    found = {topic.name: topic.retention_hours for topic in kept(topics, 10)}
    assert found == {
        **{topic.name: topic.retention_hours for topic in topics}, topology.VERDICTS: 240, topology.REVIEWS: 240,
        topology.HARD_CASES: 240, topology.DEAD_LETTERS: 240,
    }  # fmt: skip


def test_a_watch_that_begins_anew_survives_a_database_that_is_away() -> None:
    dsn = f"postgresql://127.0.0.1:{free_port()}/none"
    broker = f"127.0.0.1:{free_port()}"
    away = {"PENTIMENTO_POSTGRES__DSN": dsn, "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS": broker}
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PENTIMENTO_POSTGRES__TIMEOUT_S": "1", **away}
    command = [sys.executable, "-m", "tests.helm.pentimento", "watch", "unconstrained", "--again", "0"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        faults = 0
        for line in watching.stderr:
            faults += line.startswith("error:")
            if faults == 2:
                break
        assert watching.poll() is None
        watching.kill()


@pytest.mark.parametrize(("host", "token", "refused"), [("127.0.0.1", None, False), ("0.0.0.0", None, True),
                                                        ("0.0.0.0", "t", False)])  # fmt: skip
def test_the_door_is_not_opened_to_other_machines_without_a_token(host: str, token: str | None, refused: bool) -> None:
    settings = Settings(
        model_server=ModelServerSettings(host=host), models=ModelSettings.model_validate({"token": token})
    )
    assert (refusal(settings) is not None) is refused
