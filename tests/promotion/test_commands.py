"""`pentimento models`, `promote` and `rollback` as a user has them, on real TorchServe, PostgreSQL and Kafka."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from model_archive.card import default_path
from services.clients.database import Database
from services.clients.events import EventReader, KafkaConnection
from services.core.envelope import decode
from services.core.events import ModelPromoted
from services.core.topology import PROMOTIONS
from services.local.kafka import Kafka
from services.settings import Settings
from tests.cli.conftest import Pentimento
from tests.promotion.conftest import BASE, MODEL, archive
from trainer.registry import Registry

PENTIMENTO = (sys.executable, "-c", "from services.cli import main; main()")


@pytest.fixture
def pentimento(settings: Settings, database: Database, promotion_dsn: str, kafka: Kafka, tmp_path: Path) -> Pentimento:
    """The command line, told where everything is as `pentimento up` tells it."""
    data = tmp_path / "data"
    data.mkdir()
    lines = {
        "POSTGRES__DSN": promotion_dsn,
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "OBJECTS__URL": settings.objects.url,
        "MODELS__URL": settings.models.url,
        "MODELS__KEY_FILE": settings.models.key_file,
        "SERVING__MANAGEMENT_URL": settings.serving.management_url,
        "SERVING__METRICS_URL": settings.serving.metrics_url,
        "SERVING__STORE": settings.serving.store,
        "WATCH__PROBE_TIMEOUT_S": "30",
    }
    (data / "settings.env").write_text("".join(f"PENTIMENTO_{name}='{value}'\n" for name, value in lines.items()))
    return Pentimento(data)


def told(kafka: Kafka) -> list[tuple[str, str, str]]:
    """What the topic of promotions holds: action, version, reason."""

    async def read() -> list[tuple[str, str, str]]:
        messages = EventReader(KafkaConnection(kafka.bootstrap_servers)).read(PROMOTIONS, until_end=True)
        events = [decode(message, ModelPromoted) async for message in messages]
        return [(event.action, event.version, event.reason) for event in events]

    return asyncio.run(read())


def roles(pentimento: Pentimento) -> dict[str, tuple[str, int | None]]:
    """Role and ready workers of each version, as `pentimento models` says."""
    rows = [line for line in pentimento("models", "--json").lines if line["model"] == MODEL]
    return {row["version"]: (row["role"], row["workers"]) for row in rows}


def test_a_version_is_promoted_shown_and_rolled_back(pentimento: Pentimento, kafka: Kafka, tmp_path: Path) -> None:
    before = len(told(kafka))
    path = tmp_path / "unconstrained.mar"
    path.write_bytes(archive("2.0"))
    (event,) = pentimento("promote", MODEL, path, "--reason", "gate passed", "--json").lines
    assert (event["version"], event["previous_version"]) == ("2.0", BASE)
    assert roles(pentimento) == {"2.0": ("champion", 1), BASE: ("previous", 1)}
    assert "serves as it should" in pentimento("promote", MODEL, "2.0").stderr
    assert f"{BASE} serves instead of 2.0" in pentimento("rollback", MODEL, "--reason", "worse").stderr
    assert roles(pentimento) == {BASE: ("champion", 1), "2.0": ("other", 1)}
    assert told(kafka)[before:] == [("promoted", "2.0", "gate passed"), ("rolled_back", "2.0", "worse")]
    assert "champion" in pentimento("models").stdout
    assert pentimento("models", "--shadow", "--json").lines == []


@pytest.mark.slow
def test_the_registrys_challenger_becomes_its_champion(pentimento: Pentimento, tmp_path: Path) -> None:
    path, uri = tmp_path / "unconstrained.mar", str(tmp_path / "registry")
    path.write_bytes(archive("3.0"))
    registry = Registry(uri)
    registry.add(path, default_path("web_iml"))
    done = pentimento("promote", MODEL, "challenger", "--registry", uri)
    assert f"3.0 serves instead of {BASE}" in done.stderr
    assert registry.get(MODEL, "champion").version == "3.0"


def test_what_cannot_be_promoted_is_named(pentimento: Pentimento, tmp_path: Path) -> None:
    path = tmp_path / "unconstrained.mar"
    path.write_bytes(archive("2.0"))
    unknown = pentimento("promote", MODEL, "9.9")
    assert (unknown.status, "no version 9.9" in unknown.stderr) == (1, True)
    assert pentimento("promote", "constrained", path).status == 2
    assert pentimento("promote", "embedder", path).status == 2


@pytest.mark.slow
def test_a_promotion_that_is_killed_is_gone_on_with(pentimento: Pentimento, promotion_dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "unconstrained.mar"
    path.write_bytes(archive("2.0", load_s=3.0))
    environment = os.environ | {"PENTIMENTO_DATA_DIR": str(pentimento.data)}
    with subprocess.Popen([*PENTIMENTO, "promote", MODEL, str(path)], env=environment) as process:
        with psycopg.connect(promotion_dsn, autocommit=True) as connection:
            until(lambda: connection.execute("select 1 from promotion where state = 'begun'").fetchone() is not None)
        os.kill(process.pid, signal.SIGKILL)
    assert f"2.0 serves instead of {BASE}" in pentimento("promote", MODEL, "2.0").stderr
    assert roles(pentimento)["2.0"] == ("champion", 1)


def until(so: Callable[[], bool]) -> None:
    """Returns when something is so."""
    end = time.monotonic() + 120
    while not so():
        assert time.monotonic() < end
        time.sleep(0.05)
