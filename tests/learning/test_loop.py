"""A round of the loop from hard cases to a registered challenger, killed at any moment, and what ends it before."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model_archive import card
from services.clients.rounds import Rounds
from services.core.errors import Broken
from services.core.events import Decision
from services.core.learn.rounds import STEPS, Done, Options
from tests.learning.test_commands import run
from tests.learning.world import World, box_mask, edited, picture
from tests.models.conftest import textured
from trainer.registry import Registry

ROOT = Path(__file__).parents[2]
CASES = 8
TINY = ("--size", "48", "--batch", "2", "--workers", "0", "--calibration-samples", "2", "--checkpoint-every", "1")
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(8):
        cv2.imwrite(str(folder / f"scene{number}.jpg"), textured(np.random.default_rng(number), 96))
    return folder


@pytest.fixture
def options(photos: Path, tmp_path: Path) -> Options:
    return Options(
        photos=(str(photos),),
        tenants=("acme",),
        least_new=4,
        steps=3,
        fit=TINY,
        registry=str(tmp_path / "registry"),
        work=str(tmp_path / "rounds"),
    )


@pytest.fixture
async def reviewed(world: World) -> World:
    """Hard cases whose edits a moderator has drawn."""
    for number in range(CASES):
        await world.upload(edited(picture(number)), f"u-{number}")
        await world.review(f"u-{number}", Decision.MANIPULATED, mask=box_mask())
    return world


async def looped(world: World, options: Options, *where: str, expect: int = 0) -> dict[str, Any]:
    """The round that a process ended with, or nothing where it killed itself."""
    file = Path(options.work).with_suffix(".json")
    file.write_text(options.model_dump_json())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.learning.looping", str(file), *where),
        cwd=ROOT,
        env=world.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    told, complained = await process.communicate()
    assert process.returncode == expect, complained.decode()
    found: dict[str, Any] = json.loads(told) if told else {}
    return found


@pytest.mark.slow
async def test_a_round_that_was_killed_after_its_freeze_goes_on_and_the_next_finds_too_little_new(
    reviewed: World, options: Options
) -> None:
    await looped(reviewed, options, "freeze", "is done", expect=KILLED)
    (frozen,) = await reviewed.rows("select name from dataset_version")
    later = options.model_copy(update={"steps": 99})  # a round keeps the options that it began with
    ended = await looped(reviewed, later)
    assert (ended["decision"], ended["dataset"]) == ("registered", frozen["name"])
    assert ended["new_samples"] >= options.least_new
    assert sorted(ended["times"], key=ended["times"].get) == list(STEPS[:6])
    weights = reviewed.folder / ended["weights_key"]
    about = card.read(weights)
    shipped = card.default_path("web_iml")
    assert (about.steps, about.dataset) == (3, frozen["name"])
    assert about.started_from == ended["champion"] == card.read(shipped).version_with(card.sha256(shipped))
    (entry,) = Registry(options.registry).versions("unconstrained")
    assert (entry.version, entry.dataset, entry.aliases) == (ended["challenger"], frozen["name"], ("challenger",))
    second = await looped(reviewed, options)
    assert (second["decision"], second["reason"]) == ("too_few", "0 new training samples of 4")
    listed = await asyncio.to_thread(run, reviewed, "learn", "rounds", "--json")
    assert [(each["id"], each["decision"]) for each in listed.lines] == [(2, "too_few"), (1, "registered")]
    newest = await asyncio.to_thread(run, reviewed, "learn", "loop", "--status")
    assert "0 new training samples of 4" in newest.stdout


@pytest.mark.slow
async def test_a_round_that_is_killed_at_every_moment_ends_as_an_unbroken_one(
    reviewed: World, options: Options
) -> None:
    for step in STEPS[:6]:
        for moment in ("begins", "is done"):
            await looped(reviewed, options, step, moment, expect=KILLED)
    ended = await looped(reviewed, options)
    assert ended["decision"] == "registered"
    (entry,) = Registry(options.registry).versions("unconstrained")
    assert entry.version == ended["challenger"]
    for table, count in (("round", 1), ("dataset_version", 1), ("sample", CASES), ("annotation", CASES)):
        assert len(await reviewed.rows(f"select 1 from {table}")) == count
    async with reviewed.database.connection() as connection:
        await connection.execute("truncate round")
    unbroken = await looped(reviewed, options.model_copy(update={"work": f"{options.work}-2"}))
    assert unbroken["dataset"] == ended["dataset"]


@pytest.mark.slow
async def test_a_fit_that_was_killed_goes_on_from_its_checkpoint(reviewed: World, options: Options) -> None:
    longer = options.model_copy(update={"steps": 400})
    checkpoint = Path(options.work) / "round-000001" / "web_iml.checkpoint.pt"
    file = Path(options.work).with_suffix(".json")
    file.write_text(longer.model_dump_json())
    command = [sys.executable, "-m", "tests.learning.looping", str(file)]
    process = subprocess.Popen(command, cwd=ROOT, env=reviewed.environment(), stderr=subprocess.PIPE, text=True)
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        await asyncio.sleep(0.05)
    process.kill()
    process.communicate()
    (at,) = await Rounds(reviewed.database).newest(1)
    assert (at.step, at.finished_at) == ("fit", None)
    process = subprocess.Popen(command, cwd=ROOT, env=reviewed.environment(), stderr=subprocess.PIPE, text=True)
    _, told = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, told
    assert "resumed at step" in told


@pytest.mark.slow
async def test_what_the_gate_cannot_measure_is_refused_with_its_reasons(
    reviewed: World, options: Options, tmp_path: Path
) -> None:
    """By the command line, with a set that has no authentic pictures, and a plan."""
    folder = tmp_path / "set"
    folder.mkdir()
    cv2.imwrite(str(folder / "forged.png"), edited(picture(1)))
    cv2.imwrite(str(folder / "mask.png"), box_mask())
    (folder / "manifest.csv").write_text("forged,mask,original\nforged.png,mask.png,\n")
    plan = {**options.model_dump(mode="json"), "gate": ["--split", "all", "--count", "0", "--photographs", "0"]}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plan.items() if value is not None]
    (tmp_path / "round.toml").write_text("\n".join([*lines, 'sets = ["set"]']).replace("sets = []\n", ""))
    told = subprocess.run(
        [sys.executable, "-m", "trainer.loop", str(tmp_path / "round.toml"), "--once", "--json"],
        cwd=ROOT, env=reviewed.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    ended = json.loads(told.stdout)
    assert ended["decision"] == "refused"
    assert "no authentic pictures" in ended["reason"]
    assert (reviewed.folder / ended["report_key"] / "report.html").is_file()
    assert ended["options"]["sets"] == [str(folder)]


async def test_a_second_loop_finds_the_first_and_leaves_its_round_alone(world: World, options: Options) -> None:
    rounds = Rounds(world.database)
    async with rounds.alone() as still:
        assert still is not None
        await still()
        told = await asyncio.to_thread(run, world, "learn", "loop", "--once", "--photos", options.photos[0])
        assert (told.status, "another loop is at work" in told.stderr) == (0, True)
        assert await rounds.newest(1) == []
        abandoned = await asyncio.to_thread(run, world, "learn", "abandon", "why")
        assert (abandoned.status, "end it first" in abandoned.stderr) == (1, True)


async def test_a_round_can_be_abandoned_and_its_samples_are_new_again(world: World, options: Options) -> None:
    rounds = Rounds(world.database)
    at = await rounds.begin(options)
    assert await rounds.begin(options) == at
    for _ in range(2):
        at = await rounds.record(at, Done())
    assert (at.step, at.options) == ("freeze", options)
    told = await asyncio.to_thread(run, world, "learn", "abandon", "the photographs are gone", "--json")
    assert (told.lines[0]["decision"], told.lines[0]["step"]) == ("abandoned", "freeze")
    with pytest.raises(Broken, match="not at freeze any more"):
        await rounds.record(at, Done())
    assert (await rounds.begin(options)).id == at.id + 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "photos"),
        (["gone.toml"], "cannot be read"),
        (["odd.toml"], "lest_new"),
        (["bad.toml"], "is not TOML"),
        (["number.toml"], "photos"),
    ],
)
def test_a_round_that_cannot_be_meant_is_wrong_use(
    world: World, words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text("lest_new = 3\nphotos = ['.']\n")
    Path("number.toml").write_text("photos = 3\n")
    Path("bad.toml").write_text("least_new = \n")
    told = run(world, "learn", "loop", *words, "--once")
    assert (told.status, why in told.stderr) == (2, True), told.stderr
