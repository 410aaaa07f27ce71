"""Hard cases annotated: what is kept and why, what comes again, and a process that is killed and started again."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.clients.annotations import AnnotatedCase, Annotations
from services.clients.candidates import Candidates
from services.clients.candidates import Originals as TrustedOriginals
from services.core.events import Decision
from services.core.pixels import read_mask_png
from tests.learning.world import BOX, SIDE, World, box_mask, edited, picture, with_part
from trainer.annotate.originals import Originals, Search
from trainer.annotate.work import Work
from trainer.annotation import PairAnnotator

ROOT = Path(__file__).parents[2]
SEARCH = Search(max_distance=90, ways=2, most=5, min_inliers=12, max_bytes=10_000_000)
VERSION = "pair/1@320"


@pytest.fixture(scope="module")
def annotator() -> PairAnnotator:
    return PairAnnotator(flips=False, side=SIDE)


def work_of(world: World, annotator: PairAnnotator, version: str = VERSION) -> Work:
    return Work(
        annotations=Annotations(world.database),
        objects=world.objects,
        originals=Originals(Candidates(world.database), world.objects, SEARCH),
        annotator=annotator,
        version=version,
        max_bytes=10_000_000,
    )


async def done(work: Work, *, limit: int | None = None) -> dict[str, AnnotatedCase]:
    """What became of each case, by upload, in the order in which they were done."""
    return {case.case.upload_id: found async for case, found in work.run("acme", limit=limit)}


async def mask_of(world: World, found: AnnotatedCase) -> np.ndarray:
    assert found.mask_key is not None
    return read_mask_png(await world.objects.get(found.mask_key, 10_000_000))[0]


async def test_an_edit_of_the_verdicts_original_is_marked_and_kept(world: World, annotator: PairAnnotator) -> None:
    original = await world.register(picture(1), trusted=True, name="o-1")
    await world.upload(edited(picture(1)), "u-1", against=original)
    found = (await done(work_of(world, annotator)))["u-1"]
    assert (found.outcome, found.source, found.kind) == ("kept", "machine", "spg")
    assert found.original_sha256 == original.image.sha256
    assert found.qes is not None and found.qes > 0.5
    mask = await mask_of(world, found) > 127
    assert mask[BOX].mean() > 0.8
    assert found.area == pytest.approx(mask.mean(), abs=0.001)


async def test_an_object_of_the_original_is_marked_in_both_pictures(world: World, annotator: PairAnnotator) -> None:
    donor = await world.register(picture(1), trusted=True, name="donor")
    await world.upload(with_part(picture(1), picture(9)), "u-1", against=donor)
    found = (await done(work_of(world, annotator)))["u-1"]
    assert (found.outcome, found.kind) == ("kept", "sdg")
    assert found.original_mask_key is not None
    assert await world.objects.exists(found.original_mask_key)


async def test_the_most_urgent_case_comes_first_and_each_once(world: World, annotator: PairAnnotator) -> None:
    for number, priority in enumerate((0.1, 0.9, 0.5)):
        await world.upload(picture(number), f"u-{number}", priority=priority)
    work = work_of(world, annotator)
    assert list(await done(work, limit=2)) == ["u-1", "u-2"]
    assert list(await done(work)) == ["u-0"]
    assert await done(work) == {}
    assert len(await done(work_of(world, annotator, "pair/2@320"))) == 3


async def test_a_case_without_an_original_comes_again_when_one_was_registered(
    world: World, annotator: PairAnnotator
) -> None:
    await world.upload(edited(picture(1)), "u-1")
    work = work_of(world, annotator)
    assert (await done(work))["u-1"].outcome == "no_original"
    assert await done(work) == {}
    await world.register(picture(5), trusted=True, name="another")
    assert (await done(work))["u-1"].outcome == "no_original"
    await world.register(picture(1), trusted=True, name="the original")
    assert (await done(work))["u-1"].outcome == "kept"
    assert await done(work) == {}


async def test_an_earlier_upload_is_an_original_only_where_the_verdict_says_which_was_edited(
    world: World, annotator: PairAnnotator
) -> None:
    earlier = await world.register(picture(1), trusted=False, name="earlier")
    await world.upload(edited(picture(1)), "doubtful", against=earlier, priority=0.9)
    await world.upload(edited(edited(picture(1))), "proven", against=earlier, decision=Decision.MANIPULATED)
    outcomes = {name: found.outcome for name, found in (await done(work_of(world, annotator))).items()}
    assert outcomes == {"doubtful": "no_original", "proven": "kept"}


async def test_a_copy_of_its_original_is_dropped_with_its_score(world: World, annotator: PairAnnotator) -> None:
    original = await world.register(picture(1), trusted=True, name="o-1")
    await world.upload(picture(1), "u-1", against=original, kind=".jpg")
    found = (await done(work_of(world, annotator)))["u-1"]
    assert (found.outcome, found.mask_key) == ("dropped", None)
    assert found.qes is not None and found.qes <= 0.5


async def test_a_moderators_mask_wins_over_the_machines(world: World, annotator: PairAnnotator) -> None:
    original = await world.register(picture(1), trusted=True, name="o-1")
    await world.upload(edited(picture(1)), "u-1", against=original)
    work = work_of(world, annotator)
    assert (await done(work))["u-1"].source == "machine"
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    drawn[10:40, 10:40] = 255
    await world.review("u-1", Decision.MANIPULATED, mask=drawn)
    found = (await done(work))["u-1"]
    assert (found.outcome, found.source, found.kind) == ("kept", "moderator", "spg")
    assert np.array_equal(await mask_of(world, found), drawn)
    assert await done(work) == {}
    assert len(await world.rows("select 1 from annotation")) == 1


async def test_a_moderators_mask_needs_no_original(world: World, annotator: PairAnnotator) -> None:
    await world.upload(edited(picture(1)), "u-1")
    await world.review("u-1", Decision.MANIPULATED, mask=box_mask())
    found = (await done(work_of(world, annotator)))["u-1"]
    assert (found.outcome, found.kind, found.original_sha256) == ("kept", "drawn", None)


async def test_what_a_moderator_found_unedited_is_authentic(world: World, annotator: PairAnnotator) -> None:
    original = await world.register(picture(1), trusted=True, name="o-1")
    await world.upload(edited(picture(1)), "u-1", against=original)
    await world.review("u-1", Decision.NO_EVIDENCE)
    found = (await done(work_of(world, annotator)))["u-1"]
    assert (found.outcome, found.source, found.kind, found.area) == ("kept", "moderator", "authentic", 0.0)


async def test_bytes_that_are_gone_fail_their_case_and_no_other(world: World, annotator: PairAnnotator) -> None:
    gone = await world.upload(picture(1), "gone", priority=0.9)
    await world.upload(picture(2), "there")
    await world.objects.delete(gone.image.object_key)
    found = await done(work_of(world, annotator))
    assert {name: each.outcome for name, each in found.items()} == {"gone": "failed", "there": "no_original"}
    assert found["gone"].error is not None and gone.image.object_key in found["gone"].error


async def test_an_original_that_was_removed_is_none_any_more(world: World, annotator: PairAnnotator) -> None:
    await world.register(picture(1), trusted=True, name="o-1")
    await TrustedOriginals(world.database).remove("acme", ["o-1"])
    await world.upload(edited(picture(1)), "u-1")
    assert (await done(work_of(world, annotator)))["u-1"].outcome == "no_original"


@pytest.mark.parametrize(("cases", "kills"), [(4, (1,)), pytest.param(6, (1, 2), marks=pytest.mark.slow)])
async def test_killed_at_any_moment_the_next_run_ends_with_the_same_rows(
    world: World, cases: int, kills: tuple[int, ...]
) -> None:
    """Processes are killed, each after it has done a case or two; what they leave is what one run would have left."""
    for number in range(cases):
        original = await world.register(picture(number), trusted=True, name=f"o-{number}")
        forged = with_part(picture(number), picture(50 + number)) if number % 3 == 0 else edited(picture(number))
        await world.upload(forged, f"u-{number}", against=original)
    for more in kills:
        before = len(await world.rows("select 1 from annotation"))
        process = _annotating(world)
        while len(await world.rows("select 1 from annotation")) < before + more:
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(random.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(await world.rows("select 1 from annotation")) < cases
    process = _annotating(world)
    told, complained = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, complained
    assert {json.loads(line)["outcome"] for line in told.splitlines()} == {"kept"}
    whole = "select sha256, outcome, kind, mask_key, original_mask_key, qes from annotation order by sha256"
    interrupted = await world.rows(whole)
    assert len(interrupted) == cases
    async with world.database.connection() as connection:
        await connection.execute("delete from annotation")
    await done(work_of(world, PairAnnotator(side=SIDE)))
    assert await world.rows(whole) == interrupted


def _annotating(world: World) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainer.annotate", "--tenant", "acme", "--side", str(SIDE), "--json"]
    return subprocess.Popen(
        command, cwd=ROOT, env=world.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
