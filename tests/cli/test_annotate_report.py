"""The annotator's report, from results that are written here: what it shows does not depend on what networks say."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.cli.annotate_pictures import SIDE, UNCOVERED, aligned, difference, figures, homography
from services.cli.annotate_report import summary, write_report
from services.cli.annotator import Row, Setup
from services.cli.results import Results, read_lines
from services.core.errors import Broken
from services.core.pixels import encode_png, open_image, read_mask_png
from services.core.policy import DEFAULT_POLICY
from tests.cli.conftest import SAMPLES

LAKE = open_image((SAMPLES / "originals" / "lake.jpg").read_bytes(), max_side=320).rgb
HEIGHT, WIDTH = LAKE.shape[:2]
LEFT, TOP = 40, 20  # where the crop begins in the lake
CROP = np.array([[1.0, 0.0, -LEFT], [0.0, 1.0, -TOP], [0.0, 0.0, 1.0]])


def result(forged: str, **changed: Any) -> dict[str, Any]:
    """A line of an edit in place."""
    line = {"forged": forged, "original": "lake.png", "kind": "spg", "score": 0.9, "qes": 0.8, "kept": True}
    numbers = {"area": 0.02, "inliers": 99, "overlap": 1.0, "confidence": 0.9, "homography": CROP.ravel().tolist()}
    return {**line, **numbers, "model": "constrained/1", "seconds": 0.5, **changed}


def edited() -> np.ndarray:
    """A crop of the lake with a red square of 20 pixels in it."""
    picture = LAKE[TOP:, LEFT:].copy()
    picture[50:70, 80:100] = (220, 20, 20)
    return picture


def square(shape: tuple[int, ...], top: int, left: int) -> np.ndarray:
    mask = np.zeros(shape[:2], np.uint8)
    mask[top : top + 20, left : left + 20] = 255
    return mask


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """A folder with the lake, and `edited.png`, made from it."""
    (tmp_path / "lake.png").write_bytes(encode_png(LAKE))
    (tmp_path / "edited.png").write_bytes(encode_png(edited()))
    return Setup(tmp_path, DEFAULT_POLICY, 10_000_000)


def write(folder: Path, *lines: dict[str, Any], taken: np.ndarray | None = None) -> list[Row]:
    """A folder of results in which each upload has the square flagged. Returns the rows that it is about."""
    with Results(folder, key="forged", resume=False) as written:
        for line in lines:
            written.add(line, square(edited().shape, 50, 80), taken)
    return [{"forged": line["forged"], "original": line["original"]} for line in lines]


def pixels_of(src: str) -> np.ndarray:
    return open_image(b64decode(src.removeprefix("data:image/jpeg;base64,"))).rgb.astype(int)


def test_the_mask_of_an_original_has_a_folder_of_its_own_and_the_line_says_where(tmp_path: Path) -> None:
    taken = square(LAKE.shape, 120, 200)
    write(tmp_path / "out", result("edited.png", kind="sdg"), taken=taken)
    (line,) = read_lines(tmp_path / "out")
    assert line["original_mask"] == "originals/edited.png"
    assert np.array_equal(read_mask_png((tmp_path / "out" / "originals" / "edited.png").read_bytes())[0], taken)


def test_an_edit_in_place_is_shown_beside_and_below_its_original(tmp_path: Path, setup: Setup) -> None:
    write(tmp_path / "out", result("edited.png"))
    upload, flags, original, laid, gap = figures(result("edited.png"), tmp_path / "out", setup)
    assert [each.title for each in (upload, flags, original)] == ["Upload", "Flagged", "Original"]
    assert (original.width, original.height) == (WIDTH, HEIGHT)
    assert (laid.width, laid.height) == (upload.width, upload.height) == (WIDTH - LEFT, HEIGHT - TOP)
    assert np.abs(pixels_of(laid.src) - LAKE[TOP:, LEFT:]).mean() < 5
    heat = pixels_of(gap.src).sum(axis=2)
    assert heat[53:67, 83:97].min() > 300
    assert np.median(heat) < 20


def test_an_object_is_outlined_in_the_original(tmp_path: Path, setup: Setup) -> None:
    line = result("edited.png", kind="sdg")
    write(tmp_path / "out", line, taken=square(LAKE.shape, 120, 200))
    found = figures({**line, "original_mask": "originals/edited.png"}, tmp_path / "out", setup)
    outlined = found[2]
    assert "outlined" in outlined.alt
    changed = np.abs(pixels_of(outlined.src) - LAKE).max(axis=2) > 60
    assert changed[118:142, 198:222].mean() > 0.3
    changed[110:150, 190:230] = False
    assert changed.mean() < 0.001


def test_pictures_are_reduced_for_the_page(tmp_path: Path, setup: Setup) -> None:
    large = np.asarray(cv2.resize(LAKE, (1200, 900)), np.uint8)
    (tmp_path / "large.png").write_bytes(encode_png(large))
    line = result("large.png", original="large.png", homography=np.eye(3).ravel().tolist())
    with Results(tmp_path / "out", key="forged", resume=False) as written:
        written.add(line, square(large.shape, 0, 0))
    assert {(each.width, each.height) for each in figures(line, tmp_path / "out", setup)} == {(SIDE, 360)}


def test_full_sizes_map_to_the_sizes_that_pictures_were_opened_at() -> None:
    data = encode_png(LAKE)
    small = open_image(data, max_side=160)
    laid, valid = aligned(open_image(data), small, np.eye(3))
    assert valid.all()
    assert np.abs(laid.astype(int) - small.rgb).mean() < 4


def test_a_difference_is_dark_where_only_the_light_changed_and_grey_outside() -> None:
    darker = (LAKE * 0.7).astype(np.uint8)
    valid = np.ones(LAKE.shape[:2], bool)
    valid[:, :30] = False
    shown = difference(LAKE, darker, valid, valid)
    assert (shown[:, :30] == UNCOVERED).all()
    assert np.median(shown[:, 30:].sum(axis=2)) < 20


@pytest.mark.parametrize("numbers", [[1.0, 2.0], [float("nan")] * 9])
def test_a_homography_that_is_none_is_broken(numbers: list[float]) -> None:
    with pytest.raises(Broken, match=r"edited\.png"):
        homography(result("edited.png", homography=numbers))


def test_only_the_first_pairs_are_shown_in_pictures_and_the_page_says_so(tmp_path: Path, setup: Setup) -> None:
    names = ["edited.png", "second.png", "<third>.png"]
    for name in names[1:]:
        (tmp_path / name).write_bytes(encode_png(edited()))
    rows = write(tmp_path / "out", *(result(name) for name in names))
    page = write_report(tmp_path / "out", rows, setup, most=1).read_text()
    assert page.count("<article") == 1
    assert page.count("<img ") == 5
    assert "The other 2 of 3 pairs" in page
    assert "Only the first 1 are shown in pictures" in page
    assert re.findall(r"<tr><td>(\d)</td><td>([^<]*)</td>", page) == [("2", "second.png"), ("3", "&lt;third&gt;.png")]


def test_a_pair_whose_file_is_gone_says_so_and_keeps_its_numbers(tmp_path: Path, setup: Setup) -> None:
    rows = write(tmp_path / "out", result("edited.png"))
    (tmp_path / "edited.png").unlink()
    page = write_report(tmp_path / "out", rows, setup).read_text()
    assert "Its pictures cannot be shown" in page
    assert "0.800" in page
    assert "<img " not in page


def test_every_picture_has_a_text_for_those_who_do_not_see_it(tmp_path: Path, setup: Setup) -> None:
    rows = write(tmp_path / "out", result("edited.png"))
    page = write_report(tmp_path / "out", rows, setup).read_text()
    texts = re.findall(r'<img [^>]*alt="([^"]+)"', page)
    assert len(set(texts)) == page.count("<img ") == 5


def test_the_summary_counts_kinds_and_what_became_of_the_pairs() -> None:
    lines: list[dict[str, Any]] = [
        result("a.png", seconds=1.0),
        result("b.png", kind="sdg", qes=0.2, kept=False, seconds=2.0),
        result("c.png", kind="unrelated", kept=False, seconds=9.0),
        {"forged": "d.png", "original": "lake.png", "error": "it ends early"},
        {},
    ]
    said = dict(summary(lines, DEFAULT_POLICY))
    assert said["Pairs"] == "5"
    assert re.findall(r": (\d)", said["Kinds"]) == ["1", "1", "1"]
    assert said["Kept"].startswith("1 ")
    assert (said["Dropped"], said["Errors"], said["Without a result"]) == ("2", "1", "1")
    assert said["Median time"] == "2.00 s a pair"
    assert said["Model"] == "constrained/1"
