"""Re-judging on the whole stream: earlier verdicts are revised behind the fresh ones, once, whoever dies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from PIL import Image

from services.clients.database import Database
from services.clients.ledger import Ledger
from services.clients.models import Watch
from services.clients.rejudge import Choice, RejudgeRuns
from services.core.events import Decision, ImageUploaded, InlineImage, Path, ReviewDecided
from services.core.policy import DEFAULT_POLICY
from services.opening import open_models
from services.settings import ModelSettings
from tests.chaos.world import World, jpeg, picture, until
from tests.clients.examples import OLD, doubted

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine


async def opened(world: World) -> Database:
    return await Database.open(world.postgres.dsn, pool_size=2, timeout_s=30)


async def judged_before(world: World, tenant: str, images: Sequence[Image.Image]) -> list[str]:
    """Uploads that an old model was unsure of: its verdicts stood in the ledger before judge saw the uploads."""
    uploads, database, now = [], await opened(world), datetime.now(UTC)
    await database.migrate()
    for image in images:
        data, upload_id = jpeg(image), f"upload-{uuid4().hex[:12]}"
        await Ledger(database).claim(doubted(data, upload_id, tenant=tenant))
        await world.send(
            ImageUploaded(upload_id=upload_id, tenant=tenant, image=InlineImage(data=data), uploaded_at=now)
        )
        uploads.append(upload_id)
    await database.close()
    verdicts = await world.verdicts(uploads)
    assert {verdict.models for verdict in verdicts} == {(OLD,)}
    return uploads


async def ask(world: World, tenant: str) -> int:
    """A run of all that is doubtful, by the models that serve."""
    models = open_models(ModelSettings(url=world.torchserve.url, key_file=world.torchserve.key_file), Watch())
    choice = Choice(await models.versions(), DEFAULT_POLICY, tenant=tenant)
    await models.close()
    database = await opened(world)
    runs = RejudgeRuns(database)
    run = await runs.begin(choice, rate=5)
    await runs.queue(run, choice, after=None, limit=100)
    await database.close()
    return run


async def states(world: World, run: int) -> dict[str, tuple[str, str | None]]:
    database = await opened(world)
    async with database.connection() as connection:
        statement = "select upload_id, state, reason from rejudge where run = %s"
        rows = await (await connection.execute(statement, [run])).fetchall()
    await database.close()
    return {row["upload_id"]: (row["state"], row["reason"]) for row in rows}


async def until_over(world: World, run: int) -> None:
    async def over() -> bool:
        return all(state not in ("queued", "sent") for state, _ in (await states(world, run)).values())

    await until(over)
    await until(world.idle)


async def test_workers_killed_in_the_middle_of_a_run_lose_and_double_nothing_and_a_moderator_wins(
    world: World,
) -> None:
    tenant = f"t-{uuid4().hex[:10]}"
    uploads = await judged_before(world, tenant, [picture(7300 + number) for number in range(6)])
    decided = uploads[0]
    world.kill("intake")
    run = await ask(world, tenant)
    await world.send(
        ReviewDecided(
            decision_id=uuid4().hex, upload_id=decided, tenant=tenant, of_revision=0, moderator="mod-1",
            decision=Decision.NO_EVIDENCE, decided_at=datetime.now(UTC),
        )
    )  # fmt: skip
    await until(world.idle)
    world.begin("intake")

    async def begun() -> bool:
        return any(state in ("sent", "revised") for state, _ in (await states(world, run)).values())

    await until(begun)
    world.kill("intake")
    world.kill("judge")
    left = [upload for upload, (state, _) in (await states(world, run)).items() if state == "queued"]
    assert left, "everything was done before the workers were killed: the test shows nothing"
    world.begin("intake", "judge")
    await until_over(world, run)
    expected = dict.fromkeys(uploads, ("revised", None)) | {decided: ("skipped", "reviewed")}
    assert await states(world, run) == expected
    for upload in uploads:
        revisions = await world.revisions(upload)
        assert [verdict.revision for verdict in revisions] == [0, 1]
        assert (revisions[1].path is Path.REVIEWED) == (upload == decided)
        assert (OLD in revisions[1].models) == (upload == decided)
