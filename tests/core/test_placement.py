"""Placement: the original laid onto the upload to a fraction of a pixel, or its objects, or nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.core import alignment
from services.core.alignment import Matrix, Pixels
from services.core.pixels import open_image
from services.core.placement import Placement, mirror, place, place_objects, resize_map

SAMPLES = Path(__file__).parents[2] / "samples"
NAMES = sorted(path.stem for path in (SAMPLES / "originals").glob("*.jpg"))


@cache
def original(name: str) -> Pixels:
    return open_image((SAMPLES / "originals" / f"{name}.jpg").read_bytes(), max_side=640).rgb


@cache
def upload(name: str) -> Pixels:
    return open_image((SAMPLES / "uploads" / f"{name}.jpg").read_bytes(), max_side=640).rgb


def recompressed(picture: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def moved(picture: Pixels, homography: Matrix) -> Pixels:
    return np.asarray(cv2.warpPerspective(picture, homography, picture.shape[1::-1], flags=cv2.INTER_CUBIC), np.uint8)


def misplaced_by(found: Matrix, true: Matrix, picture: Pixels) -> float:
    """Mean distance in pixels between where two maps put the places of a picture that stay inside it."""
    height, width = picture.shape[:2]
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)), axis=2).reshape(-1, 2)
    first, second = alignment.mapped(found, grid), alignment.mapped(true, grid)
    inside = (second >= 0).all(axis=1) & (second < (width, height)).all(axis=1)
    return float(np.linalg.norm(first - second, axis=1)[inside].mean())


def placed(picture: Pixels, onto: Pixels, hint: Matrix | None = None) -> Placement:
    found = place(picture, onto, hint)
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_recompressed_copy_of_the_same_size_keeps_the_exact_map(name: str) -> None:
    found = placed(original(name), recompressed(original(name), 60))
    assert np.array_equal(found.homography, np.eye(3))
    assert found.confidence > 0.7
    assert found.inliers >= alignment.MIN_INLIERS


@pytest.mark.parametrize("name", NAMES)
def test_a_resized_copy_keeps_the_exact_map_of_resizing(name: str) -> None:
    half = np.asarray(cv2.resize(original(name), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    found = placed(original(name), half)
    assert np.allclose(found.homography, resize_map(original(name), half), atol=1e-9)


@pytest.mark.parametrize(("degrees", "scale"), [(4, 1.0), (-11, 0.9), (30, 0.8)])
def test_a_turned_copy_is_found_to_a_third_of_a_pixel(degrees: float, scale: float) -> None:
    picture = original("windmill")
    height, width = picture.shape[:2]
    true = np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale), [0, 0, 1]])
    found = placed(picture, recompressed(moved(picture, true), 85))
    assert misplaced_by(found.homography, true, picture) < 0.33


def test_a_mirrored_copy_is_found_and_said_to_be_mirrored() -> None:
    picture = original("sign")
    found = placed(picture, recompressed(np.ascontiguousarray(picture[:, ::-1]), 80))
    assert found.mirrored
    assert misplaced_by(found.homography, mirror(picture.shape[1]), picture) < 0.33
    assert found.overlap == pytest.approx(1.0, abs=0.01)


def test_a_change_of_colour_moves_nothing() -> None:
    picture = original("lake")
    dark = np.clip(255.0 * (picture / 255.0) ** 1.7 * (0.8, 1.0, 0.7), 0, 255).astype(np.uint8)
    assert np.array_equal(placed(picture, dark).homography, np.eye(3))


def test_a_large_edit_does_not_pull_the_map_and_lowers_confidence() -> None:
    picture = original("lake")
    forged = picture.copy()
    height, width = picture.shape[:2]
    other = cv2.resize(original("sign"), (width // 2, height), interpolation=cv2.INTER_AREA)
    forged[:, : other.shape[1]] = other
    found = placed(picture, forged)
    assert misplaced_by(found.homography, np.eye(3), picture) < 0.33
    assert found.confidence < 0.8


def test_a_page_around_the_picture_is_covered_in_part() -> None:
    picture = original("lighthouse")
    height, width = picture.shape[:2]
    page = np.full((height + 200, width + 240, 3), 250, np.uint8)
    page[80 : 80 + height, 100 : 100 + width] = picture
    found = placed(picture, page)
    assert found.overlap == pytest.approx(height * width / (page.shape[0] * page.shape[1]), abs=0.01)
    shift = np.array([[1.0, 0, 100], [0, 1.0, 80], [0, 0, 1]])
    assert misplaced_by(found.homography, shift, picture) < 0.33


def test_a_hint_that_is_two_pixels_off_is_put_right() -> None:
    picture = original("pier")
    off = np.array([[1.0, 0, 2.0], [0, 1.0, -1.5], [0, 0, 1]])
    found = placed(picture, recompressed(picture, 70), off)
    assert misplaced_by(found.homography, np.eye(3), picture) < 0.33


def test_different_pictures_and_empty_ones_have_no_place() -> None:
    assert place(original("pier"), original("sign")) is None
    flat = np.full((300, 400, 3), 90, np.uint8)
    assert place(flat, original("sign")) is None
    assert place(flat, flat) is None
    assert place_objects(flat, original("sign")) == ()


@pytest.mark.parametrize("flipped", [False, True], ids=["as it is", "mirrored"])
def test_an_object_in_another_picture_is_found_with_its_own_map(flipped: bool) -> None:
    forged = upload("desert-giraffe")
    if flipped:
        forged = np.ascontiguousarray(forged[:, ::-1])
    found = place_objects(original("giraffe"), forged)
    assert found
    assert found[0].mirrored == flipped
    assert found[0].spread < 0.3
    truth = cv2.imread(str(SAMPLES / "truth" / "desert-giraffe.png"), cv2.IMREAD_GRAYSCALE)
    truth = cv2.resize(truth, (forged.shape[1], forged.shape[0]), interpolation=cv2.INTER_NEAREST)
    truth = truth[:, ::-1] if flipped else truth
    x, y = np.round(found[0].points).astype(int).T
    assert (truth[y, x] > 0).mean() > 0.9


def test_pictures_that_share_no_object_have_none() -> None:
    pairs = [(first, second) for first in NAMES for second in NAMES if first < second]
    assert [pair for pair in pairs if place_objects(original(pair[0]), original(pair[1]))] == []


def test_the_same_input_gives_the_same_place() -> None:
    forged = upload("desert-giraffe")
    first, second = (place_objects(original("giraffe"), forged) for _ in range(2))
    assert all(np.array_equal(one.homography, two.homography) for one, two in zip(first, second, strict=True))
