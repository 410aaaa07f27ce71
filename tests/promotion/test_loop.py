"""The last steps of a round on a real model server: a challenger is promoted once, watched, and may be rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_archive import card
from services.cli.learn_steps import Steps
from services.clients.database import Database
from services.clients.objects import Objects
from services.core.learn.rounds import Options, Round
from services.local.kafka import Kafka
from services.opening import open_objects
from services.promotion.opening import Promoting
from services.settings import KafkaSettings, PostgresSettings, Settings
from tests.promotion.conftest import BASE, MODEL, archive
from trainer.registry import Registry

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

NEXT = "2.0+loop"


@pytest.fixture
async def objects(settings: Settings) -> AsyncIterator[Objects]:
    found = open_objects(settings.objects)
    yield found
    found.close()


@pytest.fixture
def steps(settings: Settings, database: Database, promotion_dsn: str, kafka: Kafka, objects: Objects) -> Steps:
    ours = {
        "postgres": PostgresSettings(dsn=promotion_dsn),
        "kafka": KafkaSettings(bootstrap_servers=kafka.bootstrap_servers),
    }
    return Steps(settings.model_copy(update=ours), database, objects)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A registry that knows the challenger, and the challenger's archive."""
    folder = tmp_path_factory.mktemp("registry")
    file = folder / "unconstrained.mar"
    file.write_bytes(archive(NEXT))
    Registry(str(folder)).add(file, card.default_path("web_iml"))
    return str(folder), file.read_bytes()


@pytest.fixture
def at(tmp_path: Path, steps: Steps, registered: tuple[str, bytes]) -> Round:
    """A round whose challenger is registered."""
    registry, packaged = registered
    work = str(tmp_path / "rounds")
    options = Options(photos=("photos",), registry=registry, work=work, promote=True, watch_minutes=0.02)
    found = Round(7, "promote", options, datetime(2026, 11, 27, tzinfo=UTC), challenger=NEXT)
    file = steps.files(found).archive
    file.parent.mkdir(parents=True)
    file.write_bytes(packaged)
    return found


async def test_a_challenger_is_promoted_once_however_often_the_step_is_repeated(
    steps: Steps, at: Round, promoting: Promoting
) -> None:
    for _ in range(2):
        assert (await steps.promote(at)).decision is None
    ended = await steps.watch(at)
    assert (ended.decision, ended.reason) == ("promoted", "passed the gate; did well for 0.02 minutes")
    (done,) = await promoting.promotions.history(MODEL)
    assert (done.version, done.previous_version, done.reason) == (NEXT, BASE, "passed the gate, round 7")
    (entry,) = Registry(at.options.registry).versions(MODEL)
    assert "champion" in entry.aliases


async def test_what_was_rolled_back_while_the_loop_was_away_is_not_promoted_again(
    steps: Steps, at: Round, promoting: Promoting
) -> None:
    await steps.promote(at)
    await promoting.promoter.rollback(MODEL, reason="flags every screenshot")
    await steps.promote(at)
    ended = await steps.watch(at)
    assert (ended.decision, ended.reason) == ("rolled_back", "flags every screenshot")
    assert [each.action for each in await promoting.promotions.history(MODEL)] == ["promoted", "rolled_back"]


@pytest.mark.slow
async def test_a_challenger_that_does_not_load_is_refused(steps: Steps, at: Round) -> None:
    steps.files(at).archive.write_bytes(archive(NEXT, broken=True))
    ended = await steps.promote(at)
    assert ended.decision == "refused"
    assert ended.reason is not None
    assert "Failed to start workers" in ended.reason
