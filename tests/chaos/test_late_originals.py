"""Late originals and the index's freshness on the whole stream: what comes after its uploads revises them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import httpx
import psycopg
import pytest
from PIL import Image, ImageDraw

from services.core.events import Decision, Path, ReviewDecided
from services.core.intake.keys import image_key
from tests.chaos.world import World, jpeg, picture, until

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

SEEDS = itertools.count(7000)


def forged(original: Image.Image, number: int = 0) -> bytes:
    """The original with something painted in, never twice the same."""
    edited = original.copy()
    x = 120 + 9 * number
    ImageDraw.Draw(edited).ellipse((x, 60, x + 70, 130), fill=(250, 20, 20 * number))
    return jpeg(edited, 85)


async def late(world: World, tenant: str) -> dict[str, tuple[str, str | None]]:
    """What became of a tenant's uploads in the queue: upload to state and reason."""
    async with await psycopg.AsyncConnection.connect(world.postgres.dsn) as connection:
        rows = await connection.execute("select upload_id, state, reason from late where tenant = %s", [tenant])
        return {upload: (state, reason) for upload, state, reason in await rows.fetchall()}


async def until_settled(world: World, tenant: str, uploads: Sequence[str]) -> None:
    """Waits until each upload was revised or skipped, and until the stream is idle."""

    async def settled() -> bool:
        found = await late(world, tenant)
        assert set(found) <= set(uploads)
        return all(found.get(upload, ("", None))[0] in ("revised", "skipped") for upload in uploads)

    await until(settled)
    await until(world.idle)


def a_tenant() -> str:
    return f"t-{uuid4().hex[:10]}"


async def test_an_original_that_comes_late_revises_the_verdict_once_however_often_it_is_registered(
    world: World,
) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS))
    (upload,) = await world.upload([forged(original)], tenant=tenant)
    (first,) = await world.verdicts([upload])
    assert (first.revision, first.path, first.candidate) == (0, Path.UNCONSTRAINED, None)

    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)
    await until_settled(world, tenant, [upload])
    before, after = await world.revisions(upload)
    assert before == first
    assert (after.revision, after.path) == (1, Path.CONSTRAINED_SPG)
    assert after.candidate is not None
    assert after.candidate.original_id == "the-late-one"
    assert after.decision is Decision.MANIPULATED
    assert [reason.code for reason in after.reasons][-1] == "late_original"
    assert (after.uploaded_at, after.image) == (first.uploaded_at, first.image)

    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)
    await world.original(jpeg(original, 95), "the-same-under-another-id", tenant=tenant)
    await world.original(jpeg(picture(next(SEEDS))), "a-stranger", tenant=tenant)
    await until(world.idle)
    assert await late(world, tenant) == {upload: ("revised", None)}
    assert await world.revisions(upload) == [before, after]


async def test_an_upload_that_is_a_part_of_an_original_which_comes_late_is_revised_once(world: World) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS), size=(640, 480))
    part = original.crop((200, 140, 640, 480)).rotate(12, expand=True)  # nothing that PDQ finds
    upload, stranger = await world.upload([jpeg(part), jpeg(picture(next(SEEDS)))], tenant=tenant)
    first, _ = await world.verdicts([upload, stranger])
    assert (first.revision, first.path, first.candidate) == (0, Path.UNCONSTRAINED, None)
    for _ in range(2):
        await world.original(jpeg(original, 80), "the-late-one", tenant=tenant)
        await until_settled(world, tenant, [upload])
    _, after = await world.revisions(upload)
    assert after.candidate is not None
    assert (after.revision, after.candidate.original_id) == (1, "the-late-one")
    assert [reason.code for reason in after.reasons][-1] == "late_original"
    assert await late(world, tenant) == {upload: ("revised", None)}


async def test_uploads_of_the_same_bytes_are_each_revised(world: World) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS))
    data = forged(original)
    uploads = await world.upload([data, data, jpeg(original, 95)], tenant=tenant)
    assert Path.REJECTED not in {verdict.path for verdict in await world.verdicts(uploads)}
    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)
    await until_settled(world, tenant, uploads)
    newest = [(await world.revisions(upload))[-1] for upload in uploads]
    assert [verdict.revision for verdict in newest] == [1, 1, 1]
    assert {verdict.path for verdict in newest[:2]} <= {Path.CONSTRAINED_SPG, Path.REUSED}
    assert newest[2].path is Path.IDENTICAL  # the very file that somebody now vouches for
    later = (await world.upload([data], tenant=tenant))[0]
    (verdict,) = await world.verdicts([later])
    assert verdict.path is Path.REUSED
    assert "late_original" not in {reason.code for reason in verdict.reasons}  # it was not judged again


async def test_workers_killed_in_the_middle_of_late_originals_lose_and_double_nothing(world: World) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS))
    uploads = await world.upload([forged(original, number) for number in range(8)], tenant=tenant)
    await world.verdicts(uploads)
    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)

    async def begun() -> bool:
        return any(state != "queued" for state, _ in (await late(world, tenant)).values())

    await until(begun)
    world.kill("intake")
    world.kill("judge")
    left = [upload for upload, (state, _) in (await late(world, tenant)).items() if state == "queued"]
    assert left, "everything was done before the workers were killed: the test shows nothing"
    world.begin("intake", "judge")
    await until_settled(world, tenant, uploads)
    for upload in uploads:
        assert [verdict.revision for verdict in await world.revisions(upload)] == [0, 1]


async def test_an_upload_whose_bytes_have_gone_is_skipped_with_the_reason(world: World) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS))
    data = forged(original)
    (upload,) = await world.upload([data], tenant=tenant)
    (verdict,) = await world.verdicts([upload])
    (world.folder / "objects" / image_key(sha256(data).hexdigest())).unlink()
    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)
    await until_settled(world, tenant, [upload])
    assert (await late(world, tenant))[upload] == ("skipped", "object_missing")
    assert await world.revisions(upload) == [verdict]


async def test_what_a_moderator_decided_stays(world: World) -> None:
    tenant, original = a_tenant(), picture(next(SEEDS))
    (upload,) = await world.upload([forged(original)], tenant=tenant)
    await world.verdicts([upload])
    await world.send(
        ReviewDecided(
            decision_id=uuid4().hex,
            upload_id=upload,
            tenant=tenant,
            of_revision=0,
            moderator="mod-1",
            decision=Decision.NO_EVIDENCE,
            decided_at=datetime.now(UTC),
        )
    )
    await until(world.idle)
    await world.original(jpeg(original, 95), "the-late-one", tenant=tenant)
    await until_settled(world, tenant, [upload])
    assert (await late(world, tenant))[upload] == ("skipped", "reviewed")
    assert (await world.revisions(upload))[-1].path is Path.REVIEWED


async def test_readiness_says_how_stale_the_index_is_and_metrics_how_fresh(world: World) -> None:
    await world.original(jpeg(picture(next(SEEDS))), "a-fresh-one")
    await until(world.idle)
    address = world.health_of("intake")
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as client:

        async def index() -> str:
            return str((await client.get("/readyz")).json()["parts"].get("index"))

        async def fresh() -> bool:
            return (await index()) == "ok"

        async def stale() -> bool:
            return (await index()).startswith("INDEX-STALE: an original has waited ")

        await until(fresh)
        lines = (await client.get("/metrics")).text.splitlines()
        count = next(line for line in lines if line.startswith("pentimento_original_to_findable_seconds_count"))
        assert float(count.split()[-1]) >= 1
        await asyncio.to_thread(world.postgres.kill)
        await world.original(jpeg(picture(next(SEEDS))), "one-that-waits")
        await until(stale)
        await asyncio.to_thread(world.postgres.start)
        await until(fresh)
