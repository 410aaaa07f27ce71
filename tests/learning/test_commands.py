"""The commands of the learning loop, one after the other as an engineer would type them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.clients.annotations import AnnotatedCase
from tests.learning.world import World, box_mask, edited, picture

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Told:
    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]


@pytest.fixture
async def annotated(world: World) -> World:
    """Two hard cases with annotations that were kept, and one that was dropped."""
    key = await world.put_mask(box_mask())
    for number in range(3):
        await world.upload(edited(picture(number)), f"u-{number}", priority=0.9 - number / 10)
        kept = AnnotatedCase("kept", "machine", "spg", 0.0615, 0.9, mask_key=key)
        await world.annotate_by_hand(kept if number < 2 else AnnotatedCase("dropped", "machine", "spg", 0.1, 0.2))
    return world


def run(world: World, *arguments: str | Path) -> Told:
    environment = {**world.environment(), "COLUMNS": "200"}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return Told(result.exit_code, result.stdout, result.stderr)


def test_from_annotations_to_a_version_and_out_of_it_again(annotated: World, tmp_path: Path) -> None:
    added = run(annotated, "learn", "samples", "add", "--tenant", "acme", "--json")
    assert [line["kind"] for line in added.lines] == ["spg", "spg"]
    assert run(annotated, "learn", "samples", "add", "--tenant", "acme", "--json").lines == []
    (frozen,) = run(annotated, "learn", "samples", "freeze", "--tenant", "acme", "--json").lines
    assert frozen["state"] == "frozen"
    assert run(annotated, "learn", "samples", "list", "--json").lines == [frozen]
    assert frozen["version"] in run(annotated, "learn", "samples", "list").stdout
    (numbers,) = run(annotated, "learn", "samples", "stats", frozen["version"], "--json").lines
    assert (numbers["samples"], numbers["kinds"]) == (2, {"spg": 2})
    (manifest,) = run(annotated, "learn", "samples", "stats", "--tenant", "acme", "--json").lines
    assert manifest == {**numbers, "version": None}
    split = frozen["shards"][0]["split"]
    page = tmp_path / "page.html"
    drawn = run(annotated, "learn", "samples", "sheet", frozen["version"], "--split", split, "--out", page)
    assert drawn.status == 0, drawn.stderr
    assert page.read_text().count("<figure>") == frozen["shards"][0]["samples"]
    (gone,) = run(annotated, "erase", "--upload", "u-0", "--tenant", "acme", "--by", "kim", "--yes", "--json").lines
    assert (gone["versions"], gone["left"]) == ([frozen["version"]], [])
    (marked,) = run(annotated, "learn", "samples", "list", "--json").lines
    assert marked["state"] == "erased"
    again = run(annotated, "erase", "--upload", "u-0", "--tenant", "acme", "--yes")
    assert again.status == 1
    assert "erased already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["learn", "samples", "freeze", "--tenant", "nobody"], 1, "there are no samples of nobody"),
        (["learn", "samples", "stats", "ds-0"], 1, "there is no dataset version ds-0"),
        (["learn", "samples", "sheet", "ds-0"], 1, "there is no dataset version ds-0"),
        (["learn", "samples", "sheet", "ds-0", "--split", "half"], 2, "half"),
        (["erase", "--upload", "never", "--yes"], 1, "no upload never"),
    ],
)
def test_what_cannot_be_done_is_said(world: World, arguments: list[str], status: int, why: str) -> None:
    told = run(world, *arguments)
    assert (told.status, why in told.stderr) == (status, True), told.stderr


def test_the_trainers_name_has_the_same_commands(world: World) -> None:
    command = [sys.executable, "-m", "trainer.samples", "list", "--json"]
    told = subprocess.run(command, cwd=ROOT, env=world.environment(), capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, ""), told.stderr
    usage = subprocess.run([*command[:3], "--help"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert all(name in usage for name in ("add", "freeze", "list", "stats", "sheet", "erase"))
