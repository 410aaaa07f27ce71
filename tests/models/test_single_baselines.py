"""Each handcrafted baseline sees the artefact that it is made for, and little where there is none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from model_archive.check import GOLDEN
from services.core.pixels import open_image
from trainer import single_baselines
from trainer.single_baselines import error_levels, grid_votes, noise_levels
from trainer.synthesis.disturbances import jpeg

SPOT = (slice(96, 224), slice(160, 320))
Maker = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def lake() -> np.ndarray:
    """A photograph without a grid or noise of its own, [320,480,3]."""
    picture = open_image((GOLDEN / "original.jpg").read_bytes()).rgb
    return np.asarray(cv2.GaussianBlur(cv2.resize(picture, (480, 320)), (0, 0), 1.2))


def noisy(picture: np.ndarray) -> np.ndarray:
    grain = np.random.default_rng(0).normal(0, 9, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def never_saved(picture: np.ndarray) -> np.ndarray:
    """A coarse save for the picture, none for what is pasted."""
    grain = np.random.default_rng(1).normal(0, 4, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def shifted_grid(picture: np.ndarray) -> np.ndarray:
    """The picture saved with its grid three pixels off."""
    moved = np.roll(picture, (3, 5), axis=(0, 1))
    return np.roll(jpeg(moved, 70), (-3, -5), axis=(0, 1))


CASES = [
    (error_levels, lambda picture: jpeg(picture, 60), never_saved),
    (noise_levels, lambda picture: noisy(picture // 2 + 60), lambda picture: picture // 2 + 60),
    (noise_levels, lambda picture: picture, noisy),
    (grid_votes, lambda picture: jpeg(picture, 70), shifted_grid),
]


@pytest.mark.parametrize(("baseline", "whole", "paste"), CASES)
def test_a_baseline_marks_a_planted_artefact_of_its_kind(
    lake: np.ndarray, baseline: Maker, whole: Maker, paste: Maker
) -> None:
    plain, forged = whole(lake), whole(lake).copy()
    forged[SPOT] = paste(lake)[SPOT]
    truth = np.zeros(lake.shape[:2], bool)
    truth[SPOT] = True
    found, without = baseline(forged), baseline(plain)
    assert found.shape == truth.shape
    assert found.dtype == np.float32
    assert 0.0 <= found.min() <= found.max() <= 1.0
    assert found[truth].mean() > 2.0 * found[~truth].mean()
    assert found[truth].mean() > without[truth].mean() + 0.2


def test_a_picture_without_a_grid_gives_no_votes(lake: np.ndarray) -> None:
    assert not grid_votes(noisy(lake)).any()
    own = grid_votes(jpeg(lake, 70))
    assert own.any()
    assert np.median(own) < 0.05  # flat places, where all coefficients are zero in any grid, vote by chance


@pytest.mark.parametrize("baseline", single_baselines.BASELINES.values())
@pytest.mark.parametrize("shape", [(16, 16), (37, 90), (17, 23)])
def test_small_and_odd_pictures_have_maps_too(baseline: Maker, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    assert baseline(picture).shape == shape
    assert np.isfinite(baseline(np.full((*shape, 3), 90, np.uint8))).all()


def test_otsu_marks_the_higher_of_two_levels_and_nothing_of_one() -> None:
    levels = np.full((8, 8), 40, np.uint8)
    assert not single_baselines.otsu(levels).any()
    levels[:, 5:] = 180
    assert (single_baselines.otsu(levels) == (levels == 180)).all()
