"""Copies within a picture: found where there are any, wherever they lie, and not where things merely look alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from services.core import copy_move
from services.core.copy_move import Copy

PLACE = (slice(150, 240), slice(60, 170))
TARGET = (slice(40, 130), slice(260, 370))


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    whole = cv2.imread("samples/originals/lighthouse.jpg", cv2.IMREAD_COLOR)
    return np.ascontiguousarray(cv2.resize(whole, (480, 320), interpolation=cv2.INTER_AREA)[..., ::-1])


def saved(picture: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def textured(seed: int, shape: tuple[int, int] = (320, 480)) -> np.ndarray:
    """A picture full of detail, [H,W,3] uint8, no part of which is there twice."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(128, 50, (h, w, 3)), shape[::-1]) for h, w in ((8, 12), (40, 60), (160, 240))]
    return np.clip(np.mean(layers, axis=0) * 1.8 - 100, 0, 255).astype(np.uint8)


def agreement(mask: np.ndarray, place: tuple[slice, slice]) -> float:
    truth = np.zeros(mask.shape, bool)
    truth[place] = True
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def either_way(copy: Copy) -> tuple[np.ndarray, np.ndarray]:
    """The two places, the upper one first."""
    first, second = copy.first, copy.second
    return (first, second) if np.argwhere(first)[:, 0].mean() < np.argwhere(second)[:, 0].mean() else (second, first)


@pytest.mark.parametrize("quality", [100, 80])
def test_a_copy_and_its_source_are_found_to_the_pixel(quality: int) -> None:
    picture = textured(1)
    picture[TARGET] = picture[PLACE]
    [copy] = copy_move.copies(saved(picture, quality))
    upper, lower = either_way(copy)
    assert agreement(upper, TARGET) > 0.9
    assert agreement(lower, PLACE) > 0.9
    shift = copy.matrix[:2, 2]
    assert np.allclose(np.abs(shift), [200, 110], atol=1.0)


def test_a_turned_and_enlarged_copy_is_found() -> None:
    picture = textured(2)
    matrix = cv2.getRotationMatrix2D((115, 195), 20, 1.25)
    matrix[:, 2] += (200, -90)
    laid = cv2.warpAffine(picture, matrix, (480, 320), flags=cv2.INTER_CUBIC)
    place = np.zeros((320, 480), np.uint8)
    place[PLACE] = 1
    moved = cv2.warpAffine(place, matrix, (480, 320)) > 0
    picture = np.where(moved[..., None], laid, picture)
    [copy] = copy_move.copies(picture)
    upper, _ = either_way(copy)
    assert 2 * (upper & moved).sum() / (upper.sum() + moved.sum()) > 0.85


def test_the_masks_of_a_large_picture_have_its_size() -> None:
    picture = cv2.resize(textured(3), (1440, 960), interpolation=cv2.INTER_CUBIC)
    picture[120:390, 780:1110] = picture[450:720, 180:510]
    [copy] = copy_move.copies(picture)
    assert copy.first.shape == copy.second.shape == (960, 1440)
    assert np.allclose(np.abs(copy.matrix[:2, 2]), [600, 330], atol=2.5)


def test_an_authentic_photograph_has_no_copy(photograph: np.ndarray) -> None:
    assert copy_move.copies(photograph) == []
    assert copy_move.copies(saved(photograph, 60)) == []


def test_things_that_look_alike_are_no_copies() -> None:
    """The same motif photographed twice: another scale and light, and noise of its own."""
    rng = np.random.default_rng(4)
    picture = textured(4).astype(np.float32)
    motif = cv2.resize(picture[PLACE], (112, 92))[1:-1, 1:-1] * 1.1 - 5
    picture[TARGET] = cv2.GaussianBlur(motif, (0, 0), 1.0)
    picture += rng.normal(0, 6, picture.shape)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    assert copy_move.look_alikes(picture)
    assert copy_move.copies(picture) == []


@pytest.mark.parametrize("shape", [(16, 16), (300, 20), (64, 64)])
def test_a_picture_without_features_has_no_copy(shape: tuple[int, int]) -> None:
    assert copy_move.copies(np.full((*shape, 3), 127, np.uint8)) == []


def test_a_chance_near_one_half_marks_both_places_and_a_high_one_the_copy_alone() -> None:
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    first[0], second[3] = True, True
    for chance, rows in ((0.5, [0, 3]), (0.9, [3]), (0.1, [0])):
        copy = Copy(first, second, np.eye(3), 9, 1.0, 1.0, chance)
        assert sorted(set(np.argwhere(copy.forged)[:, 0])) == rows


def test_what_does_not_fit_its_surroundings_is_told_to_be_the_copy() -> None:
    """A sharp part laid onto a soft, darker ground."""
    picture = textured(5)
    soft = cv2.GaussianBlur(picture, (0, 0), 2.5) // 2
    picture[:, 240:] = soft[:, 240:]
    picture[TARGET] = picture[PLACE]
    [copy] = copy_move.copies(picture)
    assert agreement(copy.forged, TARGET) > 0.9
