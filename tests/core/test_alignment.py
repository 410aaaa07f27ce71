"""Alignment: where an original lies in an upload, and that different pictures do not align at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.core import alignment
from services.core.alignment import Matrix, Pixels, align, extract, mirrored, warp
from services.core.pixels import open_image, to_grey

ORIGINALS = Path(__file__).parents[2] / "samples" / "originals"
NAMES = sorted(path.stem for path in ORIGINALS.glob("*.jpg"))


@cache
def original(name: str) -> Pixels:
    return open_image((ORIGINALS / f"{name}.jpg").read_bytes()).rgb


@cache
def features(name: str) -> alignment.Features:
    return extract(to_grey(original(name)))


def moved(picture: Pixels, homography: Matrix, size: tuple[int, int]) -> Pixels:
    return np.asarray(cv2.warpPerspective(picture, homography, size, flags=cv2.INTER_AREA), np.uint8)


def turned(degrees: float, scale: float, picture: Pixels) -> Matrix:
    height, width = picture.shape[:2]
    return np.vstack([cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale), [0, 0, 1]])


def misplaced_by(found: Matrix, true: Matrix, picture: Pixels) -> float:
    """Largest distance in pixels between where the two maps put a grid of points that stay inside the picture."""
    height, width = picture.shape[:2]
    grid = np.stack(np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)), axis=2).reshape(-1, 1, 2)
    first, second = (cv2.perspectiveTransform(grid, each).reshape(-1, 2) for each in (found, true))
    inside = (second >= 0).all(axis=1) & (second <= (width, height)).all(axis=1)
    return float(np.linalg.norm(first - second, axis=1)[inside].max())


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_aligns_with_itself_exactly(name: str) -> None:
    found = align(features(name), features(name))
    assert found is not None
    assert np.array_equal(found.homography, np.eye(3))
    assert found.overlap == pytest.approx(1.0)
    assert np.array_equal(warp(original(name), found.homography, original(name).shape[1::-1]), original(name))


@pytest.mark.parametrize(("degrees", "scale"), [(3, 1.0), (-12, 0.9), (45, 0.7), (90, 1.0), (180, 0.8)])
def test_a_turned_and_reduced_copy_is_found_to_the_pixel(degrees: float, scale: float) -> None:
    picture = original("windmill")
    true = turned(degrees, scale, picture)
    found = align(features("windmill"), extract(to_grey(moved(picture, true, picture.shape[1::-1]))))
    assert found is not None
    assert misplaced_by(found.homography, true, picture) < 1.5


def test_a_picture_photographed_at_an_angle_is_found() -> None:
    picture = original("sign")
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    target = corners + np.array([[40, 30], [-90, 60], [-30, -50], [70, -20]], np.float32)
    true = np.asarray(cv2.getPerspectiveTransform(corners, target), np.float64)
    found = align(features("sign"), extract(to_grey(moved(picture, true, (width, height)))))
    assert found is not None
    assert misplaced_by(found.homography, true, picture) < 2.0
    assert found.overlap == pytest.approx(cv2.contourArea(target) / (width * height), abs=0.02)


@pytest.mark.parametrize("size", [(512, 384), (700, 525), (1500, 1125), (900, 768)])
def test_a_resized_copy_gets_the_exact_map_of_resizing(size: tuple[int, int]) -> None:
    picture = original("windmill")
    upload = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    found = align(features("windmill"), extract(to_grey(upload)))
    assert found is not None
    height, width = picture.shape[:2]
    x, y = size[0] / width, size[1] / height
    assert np.allclose(found.homography, [[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def test_a_cropped_copy_is_shifted_by_whole_pixels_and_unchanged_pixels_compare_equal() -> None:
    picture = original("lake")
    upload = np.ascontiguousarray(picture[31:600, 57:900])
    found = align(features("lake"), extract(to_grey(upload)))
    assert found is not None
    assert np.array_equal(found.homography, [[1, 0, -57], [0, 1, -31], [0, 0, 1]])
    assert np.array_equal(warp(picture, found.homography, upload.shape[1::-1]), upload)


def test_an_upload_that_shows_more_than_the_original_is_covered_in_part() -> None:
    picture = original("lighthouse")
    height, width = picture.shape[:2]
    page = np.full((height * 2, width * 2, 3), 255, np.uint8)
    page[100 : 100 + height, 200 : 200 + width] = picture
    found = align(features("lighthouse"), extract(to_grey(page)))
    assert found is not None
    assert found.overlap == pytest.approx(0.25, abs=0.01)
    assert found.spread < 0.25


def test_an_object_moved_to_another_picture_is_found_and_spans_little() -> None:
    upload = open_image((ORIGINALS.parent / "uploads" / "desert-giraffe.jpg").read_bytes()).rgb
    found = align(features("giraffe"), extract(to_grey(upload)))
    assert found is not None
    assert found.homography[0, 0] == pytest.approx(0.75, abs=0.01)
    assert found.spread < 0.3 < found.overlap


def test_different_pictures_do_not_align() -> None:
    pairs = [(first, second) for first in NAMES for second in NAMES if first != second]
    assert [pair for pair in pairs if align(features(pair[0]), features(pair[1])) is not None] == []


def test_a_mirrored_copy_is_no_match_for_a_homography_without_mirroring() -> None:
    picture = np.ascontiguousarray(original("sign")[:, ::-1])
    found = align(features("sign"), extract(to_grey(picture)))
    assert found is None or np.linalg.det(found.homography[:2, :2]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_mirrored_features_are_nearly_those_of_the_mirrored_picture(name: str) -> None:
    """As a match of one to the other, and to where they lie. What is left are other pixels of the reduced picture."""
    flipped = np.ascontiguousarray(original(name)[:, ::-1])
    seen, told = extract(to_grey(flipped)), mirrored(features(name))
    found = align(told, seen)
    assert found is not None
    assert found.inliers > 0.8 * len(seen.points)
    assert np.array_equal(found.homography, np.eye(3))


def test_features_mirrored_twice_are_what_they_were() -> None:
    twice = mirrored(mirrored(features("lake")))
    assert np.array_equal(twice.descriptors, features("lake").descriptors)
    assert np.allclose(twice.points, features("lake").points, atol=1e-3)


@pytest.mark.parametrize("shape", [(16, 16), (16, 400), (300, 300), (2000, 20)])
def test_a_picture_without_any_detail_has_no_features_and_aligns_with_nothing(shape: tuple[int, int]) -> None:
    empty = extract(np.full(shape, 128, np.uint8))
    assert empty.points.shape == (0, 2)
    assert align(empty, features("lake")) is None
    assert align(features("lake"), empty) is None
    assert align(empty, empty) is None


def test_a_repeated_pattern_never_breaks_the_estimate() -> None:
    tiles = np.kron(np.indices((24, 24)).sum(axis=0) % 2, np.ones((20, 20))).astype(np.uint8) * 255
    found = align(extract(tiles), extract(np.rot90(tiles).copy()))
    assert found is None or np.isfinite(found.homography).all()


def test_the_same_input_gives_the_same_alignment() -> None:
    upload = extract(to_grey(moved(original("sign"), turned(7, 0.8, original("sign")), (1024, 985))))
    first, second = align(features("sign"), upload), align(features("sign"), upload)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.homography, second.homography)
    assert (first.inliers, first.overlap, first.spread) == (second.inliers, second.overlap, second.spread)


def test_features_of_a_reduced_copy_are_given_in_the_full_pictures_pixels() -> None:
    picture = original("lake")
    height, width = picture.shape[:2]
    half = np.asarray(cv2.resize(to_grey(picture), (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
    found = align(extract(half, (width, height)), features("lake"))
    assert found is not None
    assert np.array_equal(found.homography, np.eye(3))


def test_more_inliers_can_be_asked_for() -> None:
    found = align(features("pier"), features("pier"))
    assert found is not None
    assert align(features("pier"), features("pier"), min_inliers=found.inliers) is not None
    assert align(features("pier"), features("pier"), min_inliers=found.inliers + 1) is None


def test_what_the_original_does_not_cover_is_black_after_warping() -> None:
    shift = np.array([[1.0, 0, 100], [0, 1, 0], [0, 0, 1]])
    laid = warp(original("pier"), shift, (400, 300))
    assert laid.shape == (300, 400, 3)
    assert (laid[:, :100] == 0).all()
    assert np.array_equal(laid[:, 100:], original("pier")[:300, :300])


def test_warping_to_a_smaller_size_averages_instead_of_picking_pixels() -> None:
    fine = np.indices((400, 400)).sum(axis=0) % 2 * 255
    quarter = np.array([[0.25, 0, -0.375], [0, 0.25, -0.375], [0, 0, 1]])
    laid = warp(np.repeat(fine[..., None], 3, axis=2).astype(np.uint8), quarter, (100, 100))
    assert abs(laid.astype(int) - 127).max() <= 2
