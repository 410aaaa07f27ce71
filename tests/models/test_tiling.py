"""Tiles: where they lie, how they are laid together, and that memory does not grow with them."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_archive.handlers import tiling
from model_archive.networks.registry import GRANULE

SMALL = 65_536  # pixels of a tile: small enough that a small picture has many


def brightness(x: tiling.Floats) -> tuple[tiling.Floats, tiling.Floats]:
    """A network that calls each place as forged as it is bright, and a tile as its brightest place."""
    return x[:, 0], x[:, 0].max(axis=(1, 2))


def cut_from(plane: np.ndarray, tiles: tiling.Tiles) -> Callable[[slice, slice], tiling.Floats]:
    """Cuts [1,h,w] out of [H,W], padded to whole tiles."""

    def cut(rows: slice, columns: slice) -> tiling.Floats:
        part = plane[rows, columns]
        pad = tiles.size[1] - part.shape[0], tiles.size[0] - part.shape[1]
        return np.pad(part, ((0, pad[0]), (0, pad[1])), mode="edge")[None]

    return cut


@settings(deadline=None)
@given(side=st.integers(16, 20_000), other=st.integers(16, 3_200), lying=st.booleans())
def test_tiles_cover_the_picture_on_the_networks_granule_and_overlap(side: int, other: int, lying: bool) -> None:
    width, height = (side, other) if lying else (other, side)
    tiles = tiling.planned(width, height)
    assert tiles.size[0] * tiles.size[1] <= tiling.TILE_PIXELS
    for origins, size, length in ((tiles.columns, tiles.size[0], width), (tiles.rows, tiles.size[1], height)):
        assert origins[0] == 0
        assert size % GRANULE == 0
        assert all(origin % GRANULE == 0 for origin in origins)
        assert 0 <= origins[-1] + size - length < GRANULE
        assert all(before + size - after >= tiling.OVERLAP for before, after in pairwise(origins))


@pytest.mark.parametrize(("megapixels", "size", "count"), [(12, (4032, 3024), 12), (24, (6000, 4000), 24)])
def test_photographs_take_hardly_more_pixels_than_they_have(megapixels: int, size: tuple[int, int], count: int) -> None:
    tiles = tiling.planned(*size)
    assert tiles.count == count
    assert tiles.count * tiles.size[0] * tiles.size[1] < 1.13e6 * megapixels


@pytest.mark.parametrize(("most", "overlap"), [(1_000_000, 40), (1_000_000, 0), (60_000, 64)])
def test_tiles_that_cannot_keep_the_grid_or_overlap_are_refused(most: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="tiles of"):
        tiling.planned(4000, 3000, most=most, overlap=overlap)


@settings(deadline=None)
@given(length=st.integers(300, 5_000))
def test_the_windows_sum_to_one_at_each_place_and_fade_without_a_step(length: int) -> None:
    tiles = tiling.planned(length, 256, most=SMALL)
    windows = tiling.windows(tiles.columns, tiles.size[0], length, tiling.OVERLAP)
    total = np.zeros(length)
    for origin, window in zip(tiles.columns, windows, strict=True):
        total[origin : origin + len(window)] += window
        assert np.abs(np.diff(window)).max() < 0.05
        assert origin == 0 or window[0] < 0.001
    assert total == pytest.approx(np.ones(length), abs=1e-5)


@pytest.mark.parametrize("batch_pixels", [1, 3 * SMALL, 100 * SMALL])
@pytest.mark.parametrize("size", [(1000, 700), (257, 1111), (900, 60), (100, 80)])
def test_what_tiles_agree_on_comes_out_as_it_is(size: tuple[int, int], batch_pixels: int) -> None:
    plane = np.random.default_rng(1).uniform(0, 1, size[::-1]).astype(np.float32)
    tiles = tiling.planned(*size, most=SMALL)
    seen = tiling.looked(tiles, cut_from(plane, tiles), brightness, batch_pixels=batch_pixels)
    assert seen is not None
    assert np.abs(seen.mask - plane * 255.0).max() <= 0.51


def test_a_single_tile_keeps_its_logit_and_equal_tiles_theirs() -> None:
    assert tiling.picture_logit([1.7], [123.0]) == pytest.approx(1.7)
    assert tiling.picture_logit([-2.0] * 5, [1, 2, 3, 4, 5]) == pytest.approx(-2.0)


def test_one_sure_tile_counts_for_its_share_of_the_picture() -> None:
    quiet, sure = -40.0, 9.0
    logit = tiling.picture_logit([quiet] * 29 + [sure], [1.0] * 30)
    assert logit == pytest.approx(sure - math.log(30))
    assert tiling.picture_logit([quiet, sure], [3.0, 1.0]) == pytest.approx(sure - math.log(4))


@settings(deadline=None)
@given(st.lists(st.floats(-900, 900), min_size=1, max_size=60))
def test_the_pictures_logit_lies_between_the_largest_and_what_the_looks_cost_it(logits: list[float]) -> None:
    found = tiling.picture_logit(logits, [1.0] * len(logits))
    assert max(logits) - math.log(len(logits)) - 1e-6 <= found <= max(logits) + 1e-6


def test_many_looks_at_nothing_stay_calibrated() -> None:
    """Likelihood ratios of authentic tiles are 1 in the mean, whatever their spread; so is the picture's."""
    spread = 1.5
    tiles = np.random.default_rng(3).normal(-(spread**2) / 2, spread, (20_000, 30))
    pictures = [tiling.picture_logit(list(each), [1.0] * 30) for each in tiles]
    assert np.exp(pictures).mean() == pytest.approx(1.0, abs=0.02)
    assert (tiles.max(axis=1) > 0).mean() > 0.99, "by the largest tile nearly every picture would look edited"
    assert (np.array(pictures) > 1.0).mean() < 0.1


def test_a_run_that_is_stopped_ends_at_once_and_without_a_mask() -> None:
    plane = np.zeros((700, 1000), np.float32)
    tiles = tiling.planned(1000, 700, most=SMALL)
    asked: list[int] = []

    def go_on(done: int) -> bool:
        asked.append(done)
        return done < 3

    assert tiling.looked(tiles, cut_from(plane, tiles), brightness, batch_pixels=1, go_on=go_on) is None
    assert asked == [1, 2, 3]


def test_a_picture_of_64_megapixels_takes_little_more_memory_than_its_mask() -> None:
    tiles = tiling.planned(8000, 8000)
    tile = np.zeros((1, tiles.size[1], tiles.size[0]), np.float32)
    tracemalloc.start()
    try:
        seen = tiling.looked(tiles, lambda rows, columns: tile, brightness)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen is not None
    assert seen.mask.shape == (8000, 8000)
    assert peak < 64e6 + 120e6  # the mask, and a band of tiles with what is worked out of it
