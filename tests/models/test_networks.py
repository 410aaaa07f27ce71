"""The networks: shapes, sizes, and what their fixed parts compute."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import jpeglib
import numpy as np
import pytest
import torch
from PIL import Image

from model_archive.networks import registry
from model_archive.networks.blocks import z_scores
from model_archive.networks.inputs import (
    GROUPS,
    BlockDct,
    BlockStatistics,
    Ghosts,
    GridPhases,
    Quantised,
    Residuals,
    luma,
)
from model_archive.networks.pair_kind import KINDS
from model_archive.preprocess import CHANNELS, KIND_SIDE, single_input
from services.core.pixels import open_image

LOCALISING = ("correlation", "difference", "web_iml")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("correlation", 800_000),
        ("difference", 2_500_000),
        ("embedder", 1_000_000),
        ("pair_kind", 500_000),
        ("web_iml", 2_000_000),
    ],
)
def test_a_network_stays_below_its_limit_of_parameters(name: str, limit: int) -> None:
    assert sum(p.numel() for p in registry.build(name).parameters()) < limit


@pytest.mark.parametrize("name", LOCALISING)
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (32, 224)])
def test_a_mask_has_the_size_of_its_input_and_each_picture_one_logit(name: str, size: tuple[int, int]) -> None:
    network = registry.build(name).eval()
    with torch.inference_mode():
        out = network(torch.rand(2, CHANNELS[name], *size))
    assert out.mask.shape == (2, 1, *size)
    assert out.image.shape == (2,)
    assert out.mask.dtype == out.image.dtype == out.coarse.dtype == torch.float32


def test_a_larger_size_of_the_single_image_network_sees_rgb_through_its_backbone() -> None:
    network = registry.build("web_iml_convnext_tiny").eval()
    x = torch.rand(1, 4, 64, 96)
    with torch.inference_mode():
        out = network(x)
        assert out.mask.shape == (1, 1, 64, 96)
        for parameter in network.backbone.pyramid.parameters():
            parameter.zero_()
        assert not torch.equal(network(x).mask, out.mask)


@pytest.mark.parametrize("name", LOCALISING)
def test_the_image_head_teaches_the_masks_nothing(name: str) -> None:
    network = registry.build(name)
    network(torch.rand(2, CHANNELS[name], 64, 64)).image.sum().backward()
    taught = {key.split(".")[0] for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert taught == {"image_head"}


@pytest.mark.parametrize("name", LOCALISING)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = registry.build(name)
    out = network(torch.rand(2, CHANNELS[name], 64, 64))
    edge = out.coarse.sum() * 0.0 if out.edge is None else out.edge.sum()
    (out.mask.sum() + out.image.sum() + out.coarse.sum() + edge).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []


def test_the_classifier_of_pairs_answers_three_logits_for_each() -> None:
    network = registry.build("pair_kind").eval()
    with torch.inference_mode():
        logits = network(torch.rand(3, CHANNELS["pair_kind"], KIND_SIDE, KIND_SIDE))
    assert logits.shape == (3, len(KINDS))
    assert logits.dtype == torch.float32


def test_the_auxiliary_mask_of_the_pair_network_lies_at_a_sixteenth_of_the_size() -> None:
    out = registry.build("difference").eval()(torch.rand(1, 9, 64, 96))
    assert out.coarse.shape == (1, 1, 4, 6)


def test_an_unknown_network_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(
        ValueError, match="correlation, difference, embedder, pair_kind, web_iml, web_iml_convnext_base"
    ):
        registry.build("resnet")


def test_flat_colour_leaves_no_residual() -> None:
    flat = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, 24, 24)
    assert Residuals()(flat).abs().max() < 1e-3


def test_residuals_stay_within_one() -> None:
    assert Residuals()(torch.randint(0, 2, (1, 3, 32, 32)).float()).abs().max() <= 1.0


def test_the_block_dct_of_a_flat_block_has_only_its_first_coefficient() -> None:
    coefficients = BlockDct()(luma(torch.full((1, 3, 16, 16), 0.8)))
    assert torch.allclose(coefficients[:, 0], torch.tensor(8 * (0.8 * 255 - 128)))
    assert coefficients[:, 1:].abs().max() < 1e-2


def test_the_block_dct_keeps_the_energy_of_a_block() -> None:
    grey = luma(torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8))
    assert torch.isclose((BlockDct()(grey) ** 2).sum(), (grey**2).sum(), rtol=1e-3)


@pytest.mark.parametrize("quality", [60, 80, 95])
def test_a_ghost_dips_at_the_quality_that_a_picture_was_saved_with(quality: int) -> None:
    ghosts = Ghosts()(BlockDct()(luma(as_input(photo_like(128), quality)[:, :3]))).mean((0, 2, 3))
    assert Ghosts.qualities[int(ghosts.argmin())] == quality


def test_the_grid_of_a_jpeg_shows_at_its_own_phase_and_moves_with_a_crop() -> None:
    grey = luma(as_input(photo_like(128), 40)[:, :3])
    for shift in (0, 3):
        moved = grey[..., :64, shift : shift + 64]
        columns = GridPhases()(moved)[:, :8].mean((0, 2, 3))
        assert int(columns.argmax()) == (7 - shift) % 8  # between a block's last column and the next one's first


def test_jpegs_integers_are_won_back_from_its_pixels(tmp_path: Path) -> None:
    picture = photo_like(128)
    Image.fromarray(picture).save(tmp_path / "picture.jpg", quality=75)
    stored = jpeglib.read_dct(tmp_path / "picture.jpg")
    x = as_input(picture, 75)
    steps = x[:, 3, :8, :8].flatten(1) * 255
    assert torch.equal(steps.round().int()[0], torch.from_numpy(stored.qt[0].astype("int32")).flatten())
    won = (BlockDct()(luma(x[:, :3])) / steps[:, :, None, None]).round()[0].permute(1, 2, 0)
    truth = torch.from_numpy(stored.Y.astype("float32")).flatten(2)
    assert (won == truth).float().mean() > 0.99
    assert (won == truth)[truth != 0].float().mean() > 0.95


def test_a_block_quantised_otherwise_is_less_crowded_than_the_rest() -> None:
    picture = photo_like(256)
    once = cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)
    once[64:128, 64:128] = picture[64:128, 64:128]  # pasted: not quantised before
    x = as_input(once, 92)
    seen, known = Quantised()(BlockDct()(luma(x[:, :3])), x[:, 3, :8, :8].flatten(1) * 255)
    crowding = seen[0, :12].mean(0)
    rest = torch.ones(32, 32, dtype=torch.bool)
    rest[8:16, 8:16] = False
    assert crowding[8:16, 8:16].mean() < crowding[rest].mean() - 0.1
    assert known[0, 0] == 1.0


def test_nothing_is_said_of_integers_where_the_steps_are_unknown() -> None:
    seen, known = Quantised()(BlockDct()(luma(torch.rand(1, 3, 32, 32))), torch.zeros(1, 64))
    assert not seen.any()
    assert not known.any()


def test_block_statistics_say_what_each_block_is_like_and_how_unusual_that_is() -> None:
    statistics, residuals = BlockStatistics(), Residuals()
    picture = torch.full((1, 3, 64, 64), 0.5)
    picture[..., 16:24, 24:32] += torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    seen = statistics(picture, residuals(picture), torch.zeros(1, 64))
    assert seen.shape == (1, BlockStatistics.channels, 8, 8)
    views = sum(GROUPS.values())
    unusual = seen[0, views : 2 * views].abs().mean(0)
    assert divmod(int(unusual.argmax()), 8) == (2, 3)


def test_a_picture_that_is_the_same_everywhere_has_no_unusual_place() -> None:
    assert z_scores(torch.full((1, 4, 8, 8), 3.0)).abs().max() < 1e-3
    assert z_scores(torch.full((1, 4, 1, 1), 3.0)).abs().max() == 0.0


def photo_like(side: int) -> np.ndarray:
    """A part of a real photograph, [side,side,3] uint8, never saved as JPEG at this size."""
    whole = cv2.imread("samples/originals/lake.jpg", cv2.IMREAD_COLOR)
    small = cv2.resize(whole, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
    return np.ascontiguousarray(small[top : top + side, left : left + side, ::-1])


def as_input(picture: np.ndarray, quality: int) -> torch.Tensor:
    """[1,4,H,W] as the network is given a picture that was saved as JPEG at a quality."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    opened = open_image(file.getvalue())
    return torch.from_numpy(single_input(opened.rgb, opened.jpeg_steps))[None]
