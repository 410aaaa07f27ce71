"""The parts of a picture that are embedded."""

from __future__ import annotations

import numpy as np

from services.core.intake.regions import REGIONS, STORED, WHOLE, Box, crop


def test_the_whole_comes_first_and_every_part_lies_within_it() -> None:
    assert REGIONS[0] == WHOLE
    assert len(REGIONS) == 14
    assert STORED == 5
    for box in REGIONS:
        assert 0.0 <= box.left < box.right <= 1.0 + 1e-9
        assert 0.0 <= box.top < box.bottom <= 1.0 + 1e-9


def test_the_parts_of_each_grid_cover_the_picture() -> None:
    for boxes in (REGIONS[1:5], REGIONS[5:14]):
        seen = np.zeros((100, 150, 1), np.uint8)
        for box in boxes:
            crop(seen, box)[:] = 1
        assert seen.all()


def test_a_crop_is_the_part_of_the_picture_that_its_box_says() -> None:
    rgb = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)

    assert np.array_equal(crop(rgb, Box(0.5, 0.0, 1.0, 0.5)), rgb[:5, 10:])


def test_a_picture_of_one_pixel_has_crops_of_one_pixel() -> None:
    rgb = np.zeros((1, 1, 3), np.uint8)

    assert {crop(rgb, box).shape for box in REGIONS} == {(1, 1, 3)}
