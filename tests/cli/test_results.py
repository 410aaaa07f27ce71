"""The folder that the offline commands write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from services.cli.results import RESULTS, Results
from services.core.errors import Rejected
from services.core.pixels import read_mask_png

MASK = np.arange(24, dtype=np.uint8).reshape(4, 6)


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def test_a_result_is_a_grey_png_of_the_same_stem_and_a_line(tmp_path: Path) -> None:
    with Results(tmp_path, key="image", resume=False) as results:
        results.add({"image": "in/a.jpg", "score": 0.5}, MASK)
    mask, _ = read_mask_png((tmp_path / "a.png").read_bytes())
    assert np.array_equal(mask, MASK)
    assert lines(tmp_path) == [{"image": "in/a.jpg", "score": 0.5}]


def test_a_rejected_file_is_a_line_with_error_and_code(tmp_path: Path) -> None:
    with Results(tmp_path, key="image", resume=False) as results:
        results.add_error({"image": "a.jpg"}, Rejected("truncated", "it ends early"))
        assert results.errors == 1
    assert lines(tmp_path) == [{"image": "a.jpg", "error": "it ends early", "code": "truncated"}]


def test_a_second_image_of_the_same_stem_may_not_replace_the_first_ones_mask(tmp_path: Path) -> None:
    with Results(tmp_path, key="image", resume=False) as results:
        results.claim("in/a.jpg")
        results.claim("in/a.jpg")
        with pytest.raises(FileExistsError, match=r"in/a\.jpg"):
            results.claim("in/a.png")


def test_a_run_without_resume_replaces_the_lines_of_the_last_one(tmp_path: Path) -> None:
    for image in ("a.jpg", "b.jpg"):
        with Results(tmp_path, key="image", resume=False) as results:
            results.add({"image": image}, MASK)
    assert lines(tmp_path) == [{"image": "b.jpg"}]


def test_a_resumed_run_knows_what_is_done_and_drops_a_line_that_was_cut_off(tmp_path: Path) -> None:
    kept = [{"image": "a.jpg"}, {"image": "b.jpg", "error": "corrupt"}]
    text = "".join(json.dumps(line) + "\n" for line in kept)
    (tmp_path / RESULTS).write_text(text + '{"image": "c.jpg", "sco')
    with Results(tmp_path, key="image", resume=True) as results:
        assert results.done == {"a.jpg", "b.jpg"}
        assert results.errors == 1
        results.add({"image": "c.jpg"}, MASK)
    assert lines(tmp_path) == [*kept, {"image": "c.jpg"}]


def test_a_resumed_run_keeps_the_masks_of_the_earlier_one(tmp_path: Path) -> None:
    with Results(tmp_path, key="image", resume=False) as results:
        results.add({"image": "in/a.jpg"}, MASK)
    with Results(tmp_path, key="image", resume=True) as results, pytest.raises(FileExistsError):
        results.claim("other/a.jpg")
