from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.judge.mask import MOST_REGIONS, describe, flagged, from_rle, regions, to_full_resolution, to_rle


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1)))
def test_a_mask_survives_coco_rle(binary: np.ndarray) -> None:
    assert np.array_equal(from_rle(to_rle(binary)), binary)


def test_the_threshold_itself_counts_as_flagged_and_zero_never_does() -> None:
    grey = np.array([[0, 127, 128, 255]], dtype=np.uint8)
    assert flagged(grey, 0.5).tolist() == [[0, 0, 1, 1]]
    assert flagged(grey, 0.0).tolist() == [[0, 1, 1, 1]]


def test_regions_are_boxes_in_the_uploads_pixels_largest_first() -> None:
    binary = np.zeros((100, 200), dtype=np.uint8)
    binary[10:20, 30:50] = 1
    binary[60:90, 100:140] = 1
    first, second = regions(binary)
    assert (first.x, first.y, first.width, first.height) == (100, 60, 40, 30)
    assert (second.x, second.y, second.width, second.height) == (30, 10, 20, 10)
    assert first.area == 0.06


def test_there_are_never_too_many_regions() -> None:
    binary = np.zeros((90, 90), dtype=np.uint8)
    binary[::3, ::3] = 1
    binary[1::3, ::3] = 1
    assert len(regions(binary)) == MOST_REGIONS


def test_a_smaller_mask_is_brought_to_the_uploads_size() -> None:
    small = np.zeros((10, 20), dtype=np.uint8)
    small[:, 10:] = 255
    full = to_full_resolution(small, 200, 100)
    assert full.shape == (100, 200)
    assert full[:, :80].max() == 0
    assert full[:, 120:].min() == 255
    assert to_full_resolution(full, 200, 100) is full


def test_the_description_measures_what_is_flagged() -> None:
    grey = np.zeros((10, 10), dtype=np.uint8)
    grey[:5] = 200
    mask = describe(grey, threshold=0.5, qes=1.3, object_key="masks/one.png")
    assert (mask.area, mask.qes, mask.rle.size) == (0.5, 1.0, (10, 10))
