"""The gate: what each rule refuses, and that weights fitted on shuffled masks do not get through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from model_archive import card, weights
from trainer import gate
from trainer.data import Batch, SampleStream
from trainer.fit import FitSettings, Surroundings, loop, started
from trainer.gate_checks import Check, Compared, Look, Rules, at_least, checks, groups
from trainer.processes import Crew
from trainer.synthesis.photos import PhotoPool

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

SHIPPED = card.default_path("web_iml")
GOOD = Look(f1=0.8, flagged=0.1, score=0.95, seconds=0.5)
QUIET = Look(f1=float("nan"), flagged=0.001, score=0.1, seconds=0.5)
SIZES = (1_000_000, 1_000_000)


def pictures(champion: Look, challenger: Look, count: int = 40, **values: object) -> list[Compared]:
    """Forged pictures of which both models make the same each time."""
    first = Compared("a", "web", "splice", "clean", True, 0.1, champion, challenger)
    return [replace(first, name=str(place), **values) for place in range(count)]


def authentic(challenger: Look, count: int = 40) -> list[Compared]:
    return pictures(QUIET, challenger, count, forged=False, area=0.0, edit="authentic")


def failed(rows: list[Compared], sizes: tuple[int, int] = SIZES) -> set[str]:
    return {check.name for check in checks(rows, sizes, Rules()) if not check.passed}


def test_a_challenger_that_is_as_good_everywhere_passes() -> None:
    assert failed([*pictures(GOOD, GOOD), *authentic(QUIET)]) == set()


@pytest.mark.parametrize(
    ("challenger", "refused_for"),
    [
        (replace(GOOD, f1=0.75), {"masks", "groups"}),
        (replace(GOOD, score=0.05), {"scores"}),
        (replace(GOOD, seconds=0.7), {"time"}),
        (replace(GOOD, f1=0.0, score=0.0, failed=True), {"masks", "groups", "scores", "failures"}),
    ],
)
def test_what_is_worse_on_forgeries_is_refused(challenger: Look, refused_for: set[str]) -> None:
    assert failed([*pictures(GOOD, challenger), *authentic(QUIET, 30)]) == refused_for


def test_more_false_alarms_than_the_policys_budget_are_refused() -> None:
    forged = pictures(GOOD, GOOD)
    assert failed([*forged, *authentic(replace(QUIET, flagged=0.02))]) == {"flagged"}
    assert failed([*forged, *authentic(QUIET, 97), *authentic(replace(QUIET, score=0.93), 3)]) == set()
    assert failed([*forged, *authentic(QUIET, 92), *authentic(replace(QUIET, score=0.93), 8)]) == {"alarms"}
    assert failed([*forged, *authentic(QUIET, 85), *authentic(replace(QUIET, score=0.8), 15)]) == {"doubtful"}


def test_a_larger_file_is_refused() -> None:
    assert failed([*pictures(GOOD, GOOD), *authentic(QUIET)], (1_000_000, 1_300_000)) == {"size"}


def test_a_gain_overall_does_not_pay_for_one_kind_of_edit() -> None:
    better, worse = replace(GOOD, f1=0.95), replace(GOOD, f1=0.6)
    rows = [*pictures(GOOD, better, 80), *pictures(GOOD, worse, 20, edit="inpainting"), *authentic(QUIET)]
    assert failed(rows) == {"groups"}
    (check,) = (each for each in checks(rows, SIZES, Rules()) if each.name == "groups")
    assert "edit inpainting (-0.200, n = 20)" in check.reason
    assert failed([*rows[:80], *rows[80:99], *authentic(QUIET)]) == set()  # too few to say


def test_a_group_is_worse_only_where_chance_does_not_explain_it() -> None:
    rng = np.random.default_rng(0)
    rows = [
        replace(row, challenger=replace(GOOD, f1=float(0.795 + rng.normal(0, 0.1)))) for row in pictures(GOOD, GOOD)
    ]
    assert not any(group.worse for group in groups(rows, Rules()))


def test_what_was_not_measured_is_not_passed() -> None:
    assert failed(pictures(GOOD, GOOD)) == {"scores", "flagged", "alarms", "doubtful"}
    assert failed(authentic(QUIET)) == {"masks", "scores"}


def test_the_chance_of_so_many_alarms_is_the_binomial_one() -> None:
    assert at_least(0, 100, 0.01) == 1.0
    assert at_least(1, 100, 0.01) == pytest.approx(1 - 0.99**100)
    assert at_least(2, 2, 0.5) == pytest.approx(0.25)


def shuffled(stream: Iterator[Batch]) -> Iterator[Batch]:
    """Every picture with another one's mask."""
    for batch in stream:
        yield batch._replace(target=batch.target.roll(1, 0))


@pytest.fixture(scope="module")
def misled(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights after a short fit on shuffled masks."""
    path = tmp_path_factory.mktemp("misled") / "misled.safetensors"
    settings = FitSettings(
        network="web_iml", photos=(photo_folder / "photos",), out=path, start_from=SHIPPED, steps=30, batch=4, size=96,
        warmup_steps=1, peak_rate=5e-3, average=0.5, workers=0, checkpoint_every=100,
    )  # fmt: skip
    pool = PhotoPool.scan(settings.photos, split="all")
    stream = SampleStream("web_iml", pool, seed=settings.seed, size=settings.size, batch=settings.batch)
    crew, console = Crew("cpu"), Console(quiet=True)
    state = started(settings, crew)
    with Progress(console=console) as bar:
        loop(settings, state, shuffled(iter(stream)), Surroundings(crew, bar))
    weights.save(state.averaged, weights.load(SHIPPED).card, path)
    return path


@pytest.fixture
def arguments(one_forgery: Path, photo_folder: Path, tmp_path: Path) -> list[str]:
    """The gate on the golden forgery and a few generated pictures."""
    photos = ["--photos", str(photo_folder / "photos"), "--split", "all", "--count", "3", "--photographs", "2"]
    return ["--champion", str(SHIPPED), "--set", str(one_forgery), *photos, "--out", str(tmp_path / "report"), "--json"]


def test_weights_fitted_on_shuffled_masks_are_refused(
    misled: Path, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main([*arguments, "--challenger", str(misled)]) == gate.REFUSED
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "refuse"
    assert "masks" in {Check(**check).name for check in said["checks"] if not check["passed"]}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"] == "refuse"
    assert report["champion"] == weights.load(SHIPPED).version != report["challenger"]
    assert {row["change"] for row in report["rows"]} == {"clean", "JPEG 80"}
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/jpeg") == gate.SHOWN
    assert "http" not in page.replace("http-equiv", "")
    assert "is refused" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.slow
def test_the_champions_own_weights_are_no_worse_than_itself(arguments: list[str], tmp_path: Path) -> None:
    gate.main([*arguments, "--challenger", str(SHIPPED), "--change", "clean", "--count", "1"])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    passed = {check["name"] for check in report["checks"] if check["passed"]}
    assert passed >= {"masks", "scores", "groups", "failures", "size"}


def test_weights_of_another_network_are_refused_at_once(arguments: list[str]) -> None:
    with pytest.raises(Exception, match="holds weights of difference"):
        gate.main([*arguments, "--challenger", str(card.default_path("difference"))])


def test_nothing_to_compare_on_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        gate.main(["--champion", str(SHIPPED), "--challenger", str(SHIPPED), "--out", str(tmp_path)])
