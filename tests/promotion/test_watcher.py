"""The watch on a real TorchServe: a version that starts to fail is rolled back, and nobody's upload is lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.models import TorchServeModels
from services.core import events
from services.core.errors import Unavailable
from services.promotion.opening import Promoting
from tests.clients.examples import SINGLE, verdict
from tests.clients.tiny_model import photo
from tests.promotion.conftest import BASE, MODEL, archive


async def uploads(models: TorchServeModels, stop: asyncio.Event, answered: list[str]) -> None:
    """Sends uploads as judge does, one after another: what is unavailable is sent again."""
    while not stop.is_set():
        while True:
            try:
                found = await models.unconstrained(photo())
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                answered.append(found.model.version)
                break


async def until(answered: list[str], version: str) -> None:
    """Returns when that version has answered an upload after now."""
    start = len(answered)
    async with asyncio.timeout(120):
        while version not in answered[start:]:
            await asyncio.sleep(0.05)


async def test_a_version_that_starts_to_fail_is_rolled_back_and_every_upload_is_answered(
    promoting: Promoting, models: TorchServeModels, tmp_path: Path
) -> None:
    stop, answered, switch = asyncio.Event(), list[str](), tmp_path / "fails"
    clients = [asyncio.create_task(uploads(models, stop, answered)) for _ in range(3)]
    await promoting.promoter.add(MODEL, "2.0", archive("2.0", fails_with=switch))
    promotion = await promoting.promoter.promote(MODEL, "2.0", reason="better")
    assert promotion is not None
    watching = asyncio.create_task(promoting.watcher.watch(promotion, for_s=120))
    await until(answered, "2.0")
    switch.touch()
    reason = await watching
    await until(answered, BASE)
    stop.set()
    await asyncio.gather(*clients)  # ends only when each has its answer
    # Whether one of them met the failure is chance: it may be rolled back before.
    assert reason is not None
    assert "got no answer" in reason or "requests failed" in reason
    assert list(dict.fromkeys(answered)) == [BASE, "2.0"]
    assert answered[-1] == BASE
    newest = (await promoting.promotions.history(MODEL))[-1]
    assert (newest.action, newest.version, newest.reason) == ("rolled_back", "2.0", reason)


@pytest.mark.slow
async def test_a_version_stays_while_it_does_well_and_is_rolled_back_when_its_verdicts_drift(
    promoting: Promoting, database: Database, models: TorchServeModels
) -> None:
    await promoting.promoter.add(MODEL, "2.0", archive("2.0"))
    promotion = await promoting.promoter.promote(MODEL, "2.0", reason="better")
    assert promotion is not None
    assert await promoting.watcher.watch(promotion, for_s=1) is None
    assert (await models.unconstrained(photo())).model.version == "2.0"
    for place in range(100):
        after = place >= 50
        judged = verdict(
            f"u-{place}", path=events.Path.UNCONSTRAINED, against=None, models=(SINGLE,),
            decision=events.Decision.MANIPULATED if after else events.Decision.NO_EVIDENCE,
        )  # fmt: skip
        judged_at = promotion.begun_at + timedelta(minutes=1 if after else -1)
        await Verdicts(database).project(judged.model_copy(update={"judged_at": judged_at}))
    reason = await promoting.watcher.watch(promotion, for_s=60)
    assert reason == "the share of manipulated went from 0% to 100%; the limit is 15% either way"
    assert (await models.unconstrained(photo())).model.version == BASE
