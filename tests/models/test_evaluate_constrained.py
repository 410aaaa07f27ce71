"""The measuring of the constrained path: its cases, its baselines, its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_archive.check import GOLDEN
from services.core.pixels import open_image
from trainer import baselines, constrained_page, evaluate_constrained, pair_timing
from trainer.evaluate_constrained import Measured
from trainer.pair_cases import COPIES, COPIES_EACH, copied, generated_pairs, real_pairs, worst
from trainer.synthesis.photos import PhotoPool
from trainer.tables import Setting

SETTING = Setting("2026-01-01", "a machine", "0.0.0+abc", "default-1", "a command")
ROW = Measured(
    name="spg-1", data="generated", kind="spg", edit="splice", change="jpeg", unedited=False, area=0.1, texture=9.0,
    found="spg", iou=0.8, f1=0.9, precision=0.9, recall=0.9, original_iou=None, plain_iou=0.3, aligned_iou=0.5,
    flagged=0.1, plain_flagged=0.3, aligned_flagged=0.2, qes=0.9, score=0.99, decision="manipulated", seconds=0.5,
)  # fmt: skip


def test_a_set_gives_its_forgeries_and_unedited_copies_of_its_originals(one_forgery: Path) -> None:
    items = list(real_pairs(one_forgery))
    assert [item.unedited for item in items] == [False] + [True] * COPIES_EACH
    assert items[0].mask.sum() == 73 * 42
    assert {item.change for item in items[1:]} <= set(COPIES)


@pytest.mark.parametrize("change", COPIES)
def test_a_copy_is_another_file_of_the_same_picture(change: str) -> None:
    original = (GOLDEN / "original.jpg").read_bytes()
    first, second = (copied(original, change, seed=3) for _ in range(2))
    assert first == second != original
    size = open_image(first).rgb.shape[:2]
    assert (size == (320, 480)) == (change not in ("half size", "crop"))


def test_generated_pairs_are_files_with_their_truth(pool: PhotoPool) -> None:
    items = list(generated_pairs(pool, 1, {"spg": 2, "sdg": 1, "unrelated": 1}))
    assert [item.kind for item in items] == ["spg", "spg", "sdg", "unrelated"]
    for item in items:
        assert open_image(item.upload).rgb.shape[:2] == item.mask.shape
    assert items[2].original_mask is not None
    assert open_image(items[2].original).rgb.shape[:2] == items[2].original_mask.shape


def test_the_baselines_find_a_plain_edit_and_only_the_aligned_one_a_shifted_one() -> None:
    original = open_image((GOLDEN / "original.jpg").read_bytes()).rgb
    forged = original.copy()
    forged[100:200, 200:320] = (240, 30, 60)
    truth = np.zeros(original.shape[:2], bool)
    truth[100:200, 200:320] = True

    def agreement(found: np.ndarray, truth: np.ndarray) -> float:
        return float((found & truth).sum() / (found | truth).sum())

    assert agreement(baselines.resized_difference(forged, original), truth) > 0.8
    crop = (slice(40, None), slice(60, None))
    shifted, shifted_truth = np.ascontiguousarray(forged[crop]), truth[crop]
    aligned = agreement(baselines.aligned_difference(shifted, original), shifted_truth)
    assert aligned > 0.7 > agreement(baselines.resized_difference(shifted, original), shifted_truth)


def test_a_baseline_that_cannot_align_marks_nothing() -> None:
    flat = np.full((100, 120, 3), 60, np.uint8)
    assert not baselines.aligned_difference(flat, open_image((GOLDEN / "original.jpg").read_bytes()).rgb).any()


def test_the_command_writes_a_page_about_real_and_generated_pairs(
    one_forgery: Path, photo_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    arguments = ["--set", str(one_forgery), "--photos", str(photo_folder / "photos"), "--split", "all", "--quick"]
    assert evaluate_constrained.main([*arguments, "--out", str(page)]) == 0
    text = page.read_text()
    for heading in ("Against the baselines", "Kinds of pairs", "Unedited copies", "QES", "The worst ten"):
        assert f"## {heading}" in text
    assert "| set |" in text
    assert "| generated SDG |" in text


def test_a_line_a_pair_can_be_had_instead(one_forgery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_constrained.main(["--set", str(one_forgery), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 1 + COPIES_EACH
    assert lines[0]["found"] == "spg"
    assert 0.0 < lines[0]["iou"] <= 1.0


def test_nothing_to_measure_is_wrong_use() -> None:
    with pytest.raises(SystemExit):
        evaluate_constrained.main([])


def test_the_page_tells_the_kept_from_the_dropped_by_qes() -> None:
    rows = [replace(ROW, name=f"good{i}", iou=0.9, qes=0.95) for i in range(3)]
    rows += [replace(ROW, name="bad", iou=0.2, qes=0.4)]
    line = next(line for line in constrained_page.page(rows, SETTING).splitlines() if line.startswith("| 0.5 |"))
    assert line == "| 0.5 | 75% | 0.900 | 0.200 | 1.000 |"


def test_the_page_counts_what_was_taken_for_what() -> None:
    rows = [ROW, replace(ROW, name="sdg-1", kind="sdg"), replace(ROW, name="sdg-2", kind="sdg", found="sdg")]
    text = constrained_page.page(rows, SETTING)
    assert "| sdg | 1 | 1 | 0 |" in text
    assert "Accuracy 0.667" in text


def test_the_worst_come_first() -> None:
    assert worst(["a", "b", "c"], [0.5, 0.1, 0.9], 2) == [("b", 0.1), ("a", 0.5)]


def test_the_parts_of_a_pairs_time_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert pair_timing.main(["--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"]["everything"] > found["seconds"]["difference network"] > 0
    assert found["peak_mb"] > 0


def test_the_page_tells_smooth_objects_from_textured_ones() -> None:
    found = replace(ROW, kind="sdg", found="sdg", original_iou=0.7)
    missed = replace(found, found="unrelated", iou=0.0, texture=0.5)
    text = constrained_page.page([found, found, missed], SETTING)
    assert "| textured (>= 4) | 2 | 100% | 0.800 |" in text
    assert "| smooth: sky, wall, fog (< 2 grey levels) | 1 | 0% | 0.000 |" in text


def test_texture_is_fine_detail_inside_of_the_outline() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[:, 32:] = rng.integers(0, 255, (64, 32, 1), np.uint8)
    smooth, rough = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    smooth[:, :25] = rough[:, 40:] = True
    assert evaluate_constrained.texture(picture, smooth) < 1
    assert evaluate_constrained.texture(picture, rough) > 20
    assert evaluate_constrained.texture(picture, np.zeros((64, 64), bool)) == 0.0
