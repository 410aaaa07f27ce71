"""The measuring of the single-image path: its cases, its page, its thresholds, its export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_archive.check import GOLDEN
from model_archive.handlers.analysis import Model
from model_archive.handlers.results import SingleRequest
from services.core.pixels import open_image
from services.core.policy import DEFAULT_POLICY
from trainer import budget, evaluate_web_iml, export_benchmark, metrics, web_iml_page
from trainer.sets import fitted
from trainer.single_baselines import BASELINES
from trainer.single_cases import CHANGES, SIDES, changed, digest, generated_items, photographs, real_items
from trainer.single_measures import OTSU, OURS, Measured, baseline, calibrated_thresholds, measured
from trainer.synthesis.photos import PhotoPool
from trainer.tables import Setting

SETTING = Setting("2026-01-01", "a machine", "0.0.0+abc", "default-1", "a command")
THRESHOLDS = dict.fromkeys(BASELINES, 0.5)


def row(*, right: bool, forged: bool = True, **values: object) -> Measured:
    """A picture of 100 pixels, 10 of them forged, that we mark as it is (`right`) or not at all; baselines mark half of
    what is forged at 0.5, and by Otsu's threshold nothing."""
    truth = np.zeros((10, 10), bool)
    truth[0] = forged
    whole, half, nothing = (np.zeros((10, 10), np.uint8) for _ in range(3))
    whole[0], half[0, :5] = 255 * right, 255
    made = Measured(
        name="a", data="web", edit="real", change="clean", forged=forged, area=float(truth.mean()), score=0.99,
        failed=False, seconds=0.1,
        counts={OURS: metrics.level_counts(whole, truth)} | {n: metrics.level_counts(half, truth) for n in BASELINES},
        otsu_counts={n: metrics.level_counts(nothing, truth) for n in BASELINES},
    )  # fmt: skip
    return replace(made, **values)


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_set_gives_its_forgeries_and_its_originals(one_forgery: Path) -> None:
    forged, authentic = real_items(one_forgery)
    assert (forged.forged, int(forged.mask.sum())) == (True, 73 * 42)
    assert (authentic.forged, authentic.mask.shape) == (False, (320, 480))
    assert authentic.upload == (GOLDEN / "original.jpg").read_bytes()


def test_generated_forgeries_have_their_twins_and_stay_the_same(pool: PhotoPool) -> None:
    items = list(generated_items(pool, 2))
    assert [item.forged for item in items] == [True, False, True, False]
    assert [open_image(item.upload).rgb.shape[0] for item in items] == [SIDES[0], SIDES[0], SIDES[1], SIDES[1]]
    assert digest(items) == digest(generated_items(pool, 2)) != digest(generated_items(pool, 2, seed=1))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_what_its_name_says(change: str) -> None:
    original = (GOLDEN / "original.jpg").read_bytes()
    after = changed(original, change)
    picture = open_image(after)
    assert picture.rgb.shape[:2] == ((160, 240) if change == "resize .5" else (320, 480))
    assert (after == original) == (change == "clean")
    assert picture.format == ("JPEG" if change.startswith("JPEG") or change == "clean" else "PNG")


def test_a_picture_that_cannot_be_read_counts_as_missed(unconstrained: Model[SingleRequest], one_forgery: Path) -> None:
    (one_forgery / "upload.jpg").write_bytes(b"no picture")
    forged = next(real_items(one_forgery))
    for change in ("clean", "JPEG 80"):
        found = measured(unconstrained, forged, change)
        assert (found.failed, found.score) == (True, 0.0)
        assert metrics.scores_at(found.counts[OURS], 0.5).f1 == 0.0


def test_masks_are_measured_at_the_truths_size(unconstrained: Model[SingleRequest], one_forgery: Path) -> None:
    found = measured(unconstrained, next(real_items(one_forgery)), "resize .5")
    assert all(counts.sum() == 320 * 480 for counts in found.counts.values())
    assert not found.failed


def test_a_baseline_is_cut_where_it_does_better() -> None:
    name = next(iter(BASELINES))
    some = [row(right=True)]
    fixed = baseline(name, THRESHOLDS, some)
    assert (fixed.cut, float(fixed.f1(some)[0])) == ("0.50", pytest.approx(2 / 3))
    swapped = [
        replace(each, otsu_counts=each.counts, counts=each.otsu_counts | {OURS: each.counts[OURS]}) for each in some
    ]
    assert baseline(name, THRESHOLDS, swapped).cut == OTSU


def test_a_baselines_threshold_is_chosen_on_calibration_forgeries(pool: PhotoPool) -> None:
    items = list(generated_items(pool, 3, seed=1, twins=False))
    chosen = calibrated_thresholds(items)
    assert set(chosen) == set(BASELINES)
    assert all(0.0 < threshold <= 1.0 for threshold in chosen.values())


def test_the_page_compares_with_the_best_baseline() -> None:
    text = web_iml_page.page([row(right=True, name=str(i)) for i in range(4)], THRESHOLDS, SETTING, "")
    (goal,) = lines(text, "| F1 on real")
    assert "1.50 (1.50-1.50): 1.000 (1.00-1.00) against 0.667" in goal
    assert goal.endswith("| yes |")
    assert lines(text, "| ours |")[0].startswith("| ours | 0.5 | 1.000 (1.00-1.00) | 1.000 | 1.000 | 1.000 | 1.000 (")
    assert lines(text, "| all flagged |")[0].startswith("| all flagged | - | 0.182")


def test_the_page_says_what_recompression_leaves() -> None:
    rows = [row(right=True, data="generated"), row(right=True, data="generated", name="b")]
    rows += [replace(rows[0], change="JPEG 80"), row(right=False, data="generated", name="b", change="JPEG 80")]
    text = web_iml_page.page(rows, THRESHOLDS, SETTING, "abc")
    assert "| ours | 1.000 | 0.500 | 50% |" in text
    assert "| F1 kept after JPEG 80, generated, >= 85% | 50%" in text
    assert "`abc`" in text


def test_the_page_counts_alarms_on_photographs() -> None:
    photos = [row(right=False, forged=False, data="photographs", name=str(i), score=0.1) for i in range(3)]
    photos.append(row(right=True, forged=False, data="photographs", name="alarm"))
    text = web_iml_page.page(photos, THRESHOLDS, SETTING, "")
    assert any("| 2.50% (0.00%-" in line and line.endswith("| no |") for line in lines(text, "| flagged area"))
    assert any("| 25.0% (" in line and line.endswith("| no |") for line in lines(text, "| photographs whose"))


def test_scores_are_told_apart_by_set_and_change() -> None:
    rows = [row(right=True, name=str(i)) for i in range(3)]
    rows += [row(right=False, forged=False, name=f"o{i}", score=0.1) for i in range(2)]
    (line,) = lines(web_iml_page.page(rows, THRESHOLDS, SETTING, ""), "| web | clean | 3 / 2")
    assert "| 1.000 (1.00-1.00) | 1.00 | 1.00 | 1.000 | 1.00 / 0.00 |" in line


def test_the_command_writes_a_page_from_the_samples_alone(
    one_forgery: Path, photo_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    arguments = [
        "--set",
        str(one_forgery),
        "--photos",
        str(photo_folder / "photos"),
        "--split",
        "all",
        "--quick",
        "--workers",
        "2",
    ]
    assert evaluate_web_iml.main([*arguments, "--change", "JPEG 80", "--out", str(page)]) == 0
    text = page.read_text()
    for heading in ("Against the goals", "Masks", "Masks, by forged area", "Scores", "Authentic pictures", "The worst"):
        assert f"## {heading}" in text
    assert "| generated | JPEG 80 | 2 / 2 |" in text


def test_nothing_to_measure_is_wrong_use() -> None:
    with pytest.raises(SystemExit):
        evaluate_web_iml.main([])


def test_with_many_scores_a_budget_is_their_quantile() -> None:
    scores = np.linspace(0.0, 1.0, 2001)
    assert budget.exceeded(scores, 0.05) == (pytest.approx(0.95), False)
    assert budget.exceeded(scores, 0.01) == (pytest.approx(0.99), False)


def test_with_few_scores_the_tail_is_extrapolated() -> None:
    rng = np.random.default_rng(0)
    logits = rng.exponential(1.0, 100_000) - 2.0
    scores = 1.0 / (1.0 + np.exp(-logits))
    exact, counted = budget.exceeded(scores, 0.01)
    found = [budget.exceeded(scores[start : start + 100], 0.01) for start in range(0, 5000, 100)]
    assert not counted
    assert all(extrapolated for _, extrapolated in found)
    assert np.mean([score for score, _ in found]) == pytest.approx(exact, abs=0.03)
    with pytest.raises(ValueError, match="no scores"):
        budget.exceeded(np.zeros(0), 0.01)


def test_the_mask_threshold_is_the_lowest_within_the_budget() -> None:
    flagged = np.linspace(1.0, 0.0, 256)[None, None]
    assert budget.mask_threshold(flagged, 0.1) == pytest.approx(0.9, abs=0.005)
    assert budget.mask_threshold(np.ones((1, 1, 256))) == 1.0


def test_the_budgets_report_is_a_policy(
    unconstrained: Model[SingleRequest], pool: PhotoPool, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = budget.scored(unconstrained, list(photographs(pool.photos[:3])), ("clean", "JPEG 50"))
    assert found.scores.shape == (3, 2)
    assert (found.flagged[..., 0] == 1.0).all()
    assert budget.main(["--photos", str(photo_folder / "photos"), "--split", "all", "--most", "3"]) == 0
    told = capsys.readouterr().out
    assert "3 photographs, 12 pictures" in told
    assert f"least_area={DEFAULT_POLICY.unconstrained.least_area}" in told
    assert "extrapolated" in told


@pytest.fixture
def two_sets(one_forgery: Path, photo_folder: Path) -> list[str]:
    photos = ["--photos", str(photo_folder / "photos"), "--split", "all", "--count", "2"]
    return ["--set", str(one_forgery), *photos]


def test_imdl_benco_finds_pictures_and_masks_in_one_order(two_sets: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_benchmark.main(["--layout", "imdl-benco", "--out", str(out), *two_sets, "--predictions"]) == 0
    for name, forged, authentic in (("set", 1, 1), ("generated", 2, 2)):
        pictures, masks = (sorted((out / name / folder).iterdir()) for folder in ("Tp", "Gt"))
        assert len(pictures) == len(masks) == forged
        for picture, mask in zip(pictures, masks, strict=True):
            assert picture.stem == mask.stem
            assert cv2.imread(str(picture)).shape[:2] == cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE).shape
        listed = json.loads((out / f"{name}.json").read_text())
        assert [second for _, second in listed].count("Negative") == authentic
        assert all(Path(first).is_file() for first, _ in listed)
        assert len(list((out / name / "Predictions").glob("*.png"))) == forged + authentic
    assert set(json.loads((out / "test_datasets.json").read_text())) == {"set", "generated"}
    mask = cv2.imread(str(next((out / "set" / "Gt").iterdir())), cv2.IMREAD_GRAYSCALE)
    assert int((mask > 127).sum()) == 73 * 42


def test_photoholmes_finds_jpegs_as_casias_and_lossless_files_as_dso1s(two_sets: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_benchmark.main(["--layout", "photoholmes", "--out", str(out), *two_sets]) == 0
    (picture,) = (out / "set" / "Tp" / "Sp").glob("*.jpg")
    mask = cv2.imread(str(out / "set" / "CASIA 1.0 groundtruth" / "Sp" / f"{picture.stem}_gt.png"))
    assert int((mask[..., 0] > 0).sum()) == 73 * 42
    assert len(list((out / "set" / "Au").glob("*.jpg"))) == 1
    forged = sorted((out / "generated" / "DSO-1").glob("splicing-*.png"))
    assert len(forged) == len(list((out / "generated" / "DSO-1").glob("normal-*.png"))) == 2
    truth = [item.mask for item in generated_items(PhotoPool.scan([Path(two_sets[3])], split="all"), 2, twins=False)]
    for path, expected in zip(forged, truth, strict=True):
        mask = cv2.imread(str(out / "generated" / "DSO-1-Fake-Images-Masks" / path.name), cv2.IMREAD_GRAYSCALE)
        assert ((mask == 0) == expected).all()


def test_a_mask_of_another_size_is_fitted_to_its_picture() -> None:
    mask = np.zeros((4, 6), bool)
    mask[:2] = True
    assert fitted(mask, (8, 12)).sum() == 48
    assert fitted(mask, (4, 6)) is mask
