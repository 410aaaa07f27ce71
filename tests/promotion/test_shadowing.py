"""A shadow run on a real TorchServe: a challenger's word is recorded, and no verdict knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.clients.database import Database
from services.clients.late import LateQueue
from services.clients.ledger import Ledger
from services.clients.models import TorchServeModels
from services.clients.objects import Objects
from services.clients.rejudge import RejudgeQueue
from services.clients.shadows import Agreement, Shadows
from services.core.events import ImageIntaken, StoredImage
from services.core.intake.keys import image_key
from services.core.policy import DEFAULT_POLICY
from services.opening import open_challenger, open_objects
from services.promotion.opening import Promoting
from services.settings import Settings, TelemetrySettings
from services.stream.causes import Causes
from services.stream.judge import Judge
from services.stream.shadowing import Handle, Shadowing
from services.telemetry import open_telemetry
from tests.clients.examples import NOON, fingerprint, sha256_of
from tests.clients.tiny_model import photo
from tests.promotion.conftest import BASE, MODEL, archive


@pytest.fixture
async def objects(settings: Settings) -> AsyncIterator[Objects]:
    store = open_objects(settings.objects)
    yield store
    store.close()


@pytest.fixture
async def judge(models: TorchServeModels, objects: Objects, database: Database) -> AsyncIterator[Handle]:
    telemetry = open_telemetry(TelemetrySettings(), "test")
    causes = Causes(LateQueue(database), RejudgeQueue(database), telemetry)
    made = Judge(
        objects=objects, models=models, ledger=Ledger(database), causes=causes, policy=DEFAULT_POLICY,
        max_bytes=1_000_000, telemetry=telemetry, now=lambda: NOON,
    )  # fmt: skip
    yield made.intaken
    telemetry.close()


@pytest.fixture
async def shadowing(settings: Settings, objects: Objects, database: Database) -> AsyncIterator[Shadowing]:
    """Asks version 2.0 about every upload, one at a time."""
    challenger = open_challenger(settings.models, "2.0")
    made = Shadowing(
        models=challenger, objects=objects, shadows=Shadows(database), policy=DEFAULT_POLICY, max_bytes=1_000_000,
        share=1.0, in_flight=1,
    )  # fmt: skip
    yield made
    await made.close()
    await challenger.close()


async def intake(objects: Objects, upload_id: str) -> ImageIntaken:
    """An upload of a picture of its own, without candidates, in the store."""
    data, sha256 = photo(), sha256_of(upload_id)
    await objects.put(image_key(sha256), data, "image/jpeg")
    image = StoredImage(
        object_key=image_key(sha256), sha256=sha256, size_bytes=len(data), width=96, height=64, format="JPEG"
    )
    return ImageIntaken(
        upload_id=upload_id, tenant="acme", uploaded_at=NOON, image=image, fingerprint=fingerprint(), index_version="1"
    )


async def recorded(database: Database) -> list[Agreement]:
    """What the challenger said, once it has said something."""
    async with asyncio.timeout(60):
        while not (found := await Shadows(database).agreement()):
            await asyncio.sleep(0.05)
    return found


async def test_a_challengers_word_is_recorded_beside_the_champions_verdict(
    promoting: Promoting, judge: Handle, shadowing: Shadowing, objects: Objects, database: Database
) -> None:
    await promoting.promoter.add(MODEL, "2.0", archive("2.0"))
    await promoting.promoter.load(MODEL, "2.0")
    first = await intake(objects, "u-1")
    (verdict,) = await shadowing.beside(judge)(first)
    assert verdict.models[0].version == BASE
    (agreement,) = await recorded(database)
    assert (agreement.champion, agreement.challenger, agreement.uploads) == (BASE, "2.0", 1)
    assert (agreement.same_decision, agreement.iou, agreement.score_difference) == (1.0, 1.0, 0.0)
    assert (await judge(first))[0].to_bytes() == verdict.to_bytes()


async def test_a_challenger_that_is_not_there_changes_nothing(
    judge: Handle, shadowing: Shadowing, objects: Objects, database: Database
) -> None:
    verdicts = [(await shadowing.beside(judge)(await intake(objects, f"u-{place}")))[0] for place in range(3)]
    assert [verdict.models[0].version for verdict in verdicts] == [BASE] * 3
    await shadowing.close()
    assert await Shadows(database).agreement() == []
