"""From pixels to network inputs."""

from __future__ import annotations

import numpy as np
import pytest

from model_archive import preprocess
from services.core import alignment
from tests.models.conftest import textured


@pytest.fixture
def picture() -> np.ndarray:
    return textured(np.random.default_rng(5), 128)


def test_a_gain_and_an_offset_between_the_sides_are_taken_back(picture: np.ndarray) -> None:
    upload = np.clip(picture * np.array([0.8, 0.9, 1.1]) + 7.0, 0, 255).astype(np.uint8)
    matched = preprocess.photometric(picture, upload, np.ones((128, 128), bool))
    assert np.abs(matched - upload).mean() < 1.0


@pytest.mark.parametrize("change", ["gamma", "greyscale", "saturation", "sepia"])
def test_a_change_of_colour_as_a_whole_is_taken_back_although_a_quarter_is_edited(
    change: str, picture: np.ndarray
) -> None:
    levels = picture.astype(float)
    grey = levels.mean(2, keepdims=True)
    upload = {
        "gamma": 255.0 * (levels / 255.0) ** 1.6,
        "greyscale": np.repeat(grey, 3, axis=2),
        "saturation": grey + (levels - grey) * 1.5,
        "sepia": levels @ np.array([[0.39, 0.35, 0.27], [0.57, 0.5, 0.4], [0.04, 0.1, 0.13]]),
    }[change]
    upload = np.clip(upload, 0, 255).astype(np.uint8)
    upload[:64, :64] = (250, 20, 30)
    matched = preprocess.photometric(picture, upload, np.ones((128, 128), bool))
    unedited = np.abs(matched - upload)[70:]
    assert unedited.mean() < 3.0
    assert unedited.mean() < 0.35 * np.abs(picture.astype(float) - upload)[70:].mean()


def test_colours_are_matched_on_what_the_matches_span_alone(picture: np.ndarray) -> None:
    upload = np.random.default_rng(0).integers(0, 256, picture.shape).astype(np.uint8)
    upload[20:80, 30:90] = np.clip(picture[20:80, 30:90] * 0.7 + 20, 0, 255)
    points = np.array([[32, 22], [88, 22], [88, 78], [32, 78], [60, 50]], np.float32)
    x = preprocess.object_input(upload, picture, np.ones((128, 128), bool), points)
    assert x.shape == (10, 128, 128)
    assert x[6:9, 25:75, 35:85].mean() < 0.02 < x[6:9, 90:].mean()
    assert x[9, 50, 60] > 0.5 > x[9, 120, 120]


def test_no_matches_span_nothing_and_witness_nothing() -> None:
    nothing = np.zeros((0, 2), np.float32)
    assert not preprocess.spanned(nothing, (40, 60)).any()
    assert not preprocess.witnesses(nothing, (40, 60)).any()


def test_matches_outside_of_the_picture_are_left_out() -> None:
    outside = np.array([[-5, 10], [500, 10], [10, 900]], np.float32)
    assert not preprocess.witnesses(outside, (40, 60)).any()


@pytest.mark.parametrize("shape", [(10, 20, 300), (10, 700, 90), (10, 128, 128)])
def test_the_kind_of_a_pair_is_looked_at_in_one_size(shape: tuple[int, ...]) -> None:
    x = preprocess.kind_input(np.random.default_rng(0).random(shape, dtype=np.float32))
    assert x.shape == (10, preprocess.KIND_SIDE, preprocess.KIND_SIDE)
    assert x.dtype == np.float32


def test_an_edited_region_does_not_pull_the_colours(picture: np.ndarray) -> None:
    upload = picture.copy()
    upload[:40, :60] = 255
    matched = preprocess.photometric(picture, upload, np.ones((128, 128), bool))
    assert np.abs(matched[50:] - picture[50:]).mean() < 0.5


def test_nothing_differs_where_the_original_has_no_pixels(picture: np.ndarray) -> None:
    valid = np.ones((128, 128), bool)
    valid[:30] = False
    x = preprocess.pair_input(picture, 255 - picture, valid)
    assert x.shape == (9, 128, 128)
    assert not x[6:, :30].any()
    assert x[6:, 30:].any()


def test_a_side_without_any_common_pixels_gives_no_difference(picture: np.ndarray) -> None:
    x = preprocess.pair_input(picture, 255 - picture, np.zeros((128, 128), bool))
    assert not x[6:].any()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (1, 1)])
def test_padding_adds_right_and_below_up_to_the_granule(height: int, width: int) -> None:
    x = np.random.default_rng(0).random((3, height, width), dtype=np.float32)
    padded = preprocess.padded(x, 16)
    assert padded.shape[1] % 16 == 0
    assert padded.shape[2] % 16 == 0
    np.testing.assert_array_equal(padded[:, :height, :width], x)


def test_a_homography_between_reduced_pictures_lays_pixels_where_the_full_one_does(picture: np.ndarray) -> None:
    shift = np.array([[1.0, 0.0, 12.0], [0.0, 1.0, -8.0], [0.0, 0.0, 1.0]])
    half = picture.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    sizes = ((128, 128), (64, 64))
    matrix = preprocess.rescaled(shift, original=sizes, upload=sizes)
    np.testing.assert_allclose(matrix, [[1, 0, 6], [0, 1, -4], [0, 0, 1]], atol=1e-12)
    np.testing.assert_array_equal(alignment.warp(half, matrix, (64, 64))[:60, 6:], half[4:, :58])
