"""Whatever breaks, every upload gets exactly one verdict, and the rest of the stream goes on."""

from __future__ import annotations

import asyncio
import itertools
from hashlib import sha256

import pytest
from PIL import ImageDraw

from services.core import topology
from services.core.envelope import Message, decode
from services.core.events import DeadLetter, Decision, Path
from services.core.intake.keys import image_key
from tests.chaos.world import World, jpeg, picture, until

SEEDS = itertools.count(1000)
FAST_S, FULL_S = 4.0, 60.0
AWAY = [FAST_S, pytest.param(FULL_S, marks=pytest.mark.slow)]


def fresh(count: int) -> list[bytes]:
    """JPEG files that nobody has seen before."""
    return [jpeg(picture(next(SEEDS))) for _ in range(count)]


async def test_good_bad_and_repeated_uploads_each_get_the_verdict_they_should(world: World) -> None:
    original = picture(next(SEEDS))
    await world.original(jpeg(original, 95), "the-original")
    await until(world.idle)
    edited = original.copy()
    ImageDraw.Draw(edited).ellipse((150, 60, 220, 130), fill=(250, 20, 20))
    good = jpeg(picture(next(SEEDS)))
    forged, copy, unknown = await world.upload([jpeg(edited), jpeg(original, 70), good])
    await world.verdicts([forged, copy, unknown])
    truncated, nonsense, again, same = await world.upload(
        [good[: len(good) // 2], b"no image", good, jpeg(original, 95)]
    )
    verdicts = await world.verdicts([forged, copy, unknown, truncated, nonsense, again, same])
    by_id = {verdict.upload_id: verdict for verdict in verdicts}
    assert by_id[forged].path is Path.CONSTRAINED_SPG
    assert by_id[forged].candidate is not None
    assert by_id[forged].candidate.original_id == "the-original"
    assert by_id[copy].path is Path.CONSTRAINED_SPG
    assert by_id[unknown].path is Path.UNCONSTRAINED
    assert [by_id[bad].reasons[0].code for bad in (truncated, nonsense)] == ["truncated", "unsupported_type"]
    assert by_id[again].path is Path.REUSED
    assert by_id[again].reused_from == unknown
    assert by_id[again].decision is by_id[unknown].decision
    assert by_id[same].path is Path.IDENTICAL
    assert by_id[same].decision is Decision.NO_EVIDENCE


async def test_an_upload_whose_original_has_gone_from_the_store_is_looked_at_alone(world: World) -> None:
    original = picture(next(SEEDS))
    await world.original(jpeg(original, 95), "the-lost-original")
    await until(world.idle)
    lost = sha256(jpeg(original, 95)).hexdigest()
    (upload,) = await world.upload([jpeg(original, 60)])
    await world.verdicts([upload])
    (world.folder / "objects" / image_key(lost)).unlink()
    (later,) = await world.upload([jpeg(original, 50)])
    (verdict,) = await world.verdicts([later])
    assert (verdict.path, verdict.decision is not Decision.REJECTED) == (Path.UNCONSTRAINED, True)


async def test_an_image_has_one_trace_from_upload_to_verdict(world: World) -> None:
    (upload,) = await world.upload(fresh(1))
    await world.verdicts([upload])
    traces = set()
    for topic in (topology.INTAKES, topology.VERDICTS):
        for message in await world.everything(topic):
            if message.key == upload.encode():
                carried = [value.decode().split("-")[1] for name, value in message.headers if name == "traceparent"]
                assert len(carried) == 1
                traces.update(carried)
    assert len(traces) == 1


async def test_the_same_upload_sent_twice_has_one_verdict(world: World) -> None:
    first, second = fresh(2)
    (upload,) = await world.upload([first])
    (verdict,) = await world.verdicts([upload])
    for message in [m for m in await world.everything(topology.UPLOADS) if m.key == upload.encode()]:
        await world.sender.send(Message(message.topic, message.key, message.value, message.headers))
    later = await world.upload([second])
    await world.verdicts(later)
    assert await world.verdicts([upload]) == [verdict]


async def test_poison_becomes_a_dead_letter_with_its_own_bytes(world: World) -> None:
    await world.sender.send(Message(topology.UPLOADS, b"poison", b'{"upload_id": 7}', (("x-origin", b"test"),)))
    uploads = await world.upload(fresh(3))
    await world.verdicts(uploads)
    letters = [decode(message, DeadLetter) for message in await world.everything(topology.DEAD_LETTERS)]
    (poison,) = [letter for letter in letters if letter.source_key == b"poison"]
    assert poison.source_value == b'{"upload_id": 7}'
    assert poison.source_headers == (("x-origin", b"test"),)
    assert poison.kind == "undecodable"


@pytest.mark.parametrize("away_s", AWAY)
async def test_while_the_model_server_is_away_uploads_wait(world: World, away_s: float) -> None:
    before = await world.upload(fresh(4))
    await world.began("judge")
    await asyncio.to_thread(world.torchserve.kill)
    during = await world.upload(fresh(8))
    await asyncio.sleep(away_s)
    await asyncio.to_thread(world.torchserve.start)
    after = await world.upload(fresh(2))
    await world.verdicts(before + during + after)


@pytest.mark.parametrize("away_s", AWAY)
async def test_while_the_database_is_away_uploads_wait(world: World, away_s: float) -> None:
    before = await world.upload(fresh(4))
    await world.began("intake")
    await asyncio.to_thread(world.postgres.kill)
    during = await world.upload(fresh(8))
    await asyncio.sleep(away_s)
    await asyncio.to_thread(world.postgres.start)
    after = await world.upload(fresh(2))
    await world.verdicts(before + during + after)


@pytest.mark.parametrize("group", ["intake", "judge", "learn"])
async def test_a_worker_killed_in_the_middle_of_its_work_loses_and_contradicts_nothing(
    world: World, group: str
) -> None:
    uploads = await world.upload(fresh(12))
    await world.began(group, uploads[0])
    world.kill(group)
    uploads += await world.upload(fresh(4))
    world.begin(group)
    await world.verdicts(uploads)


async def test_workers_that_come_and_go_while_others_work_cost_no_verdict(world: World) -> None:
    uploads = await world.upload(fresh(10))
    world.begin("intake", "judge")
    uploads += await world.upload(fresh(10))
    await world.began("judge", uploads[0])
    first_intake, first_judge = world.workers["intake"][0], world.workers["judge"][0]
    first_intake.terminate()
    first_judge.terminate()
    uploads += await world.upload(fresh(6))
    await world.verdicts(uploads)
    assert await asyncio.to_thread(first_intake.wait, 60) == 0
    assert await asyncio.to_thread(first_judge.wait, 60) == 0


@pytest.mark.slow
async def test_while_the_broker_is_away_workers_wait_and_lose_nothing(world: World) -> None:
    before = await world.upload(fresh(6))
    await world.began("judge")
    await asyncio.to_thread(world.kafka.kill)
    await asyncio.sleep(FULL_S)
    await asyncio.to_thread(world.kafka.start)
    after = await world.upload(fresh(2))
    await world.verdicts(before + after)
