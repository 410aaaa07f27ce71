"""The networks: shapes, sizes, and what their fixed parts compute."""

from __future__ import annotations

import pytest
import torch

from model_archive.networks import registry
from model_archive.networks.blocks import z_scores
from model_archive.networks.inputs import BlockDct, BlockStatistics, Residuals
from model_archive.networks.pair_kind import KINDS
from model_archive.preprocess import CHANNELS, KIND_SIDE

LOCALISING = ("correlation", "difference", "web_iml")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("correlation", 800_000), ("difference", 2_500_000), ("pair_kind", 500_000), ("web_iml", 2_000_000)],
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
    (out.mask.sum() + out.image.sum() + out.coarse.sum()).backward()
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
    with pytest.raises(ValueError, match="correlation, difference, pair_kind, web_iml"):
        registry.build("resnet")


def test_flat_colour_leaves_no_residual() -> None:
    flat = torch.tensor([0.2, 0.5, 0.9])[None, :, None, None].expand(1, 3, 24, 24)
    assert Residuals()(flat).abs().max() < 1e-3


def test_residuals_stay_within_one() -> None:
    assert Residuals()(torch.randint(0, 2, (1, 3, 32, 32)).float()).abs().max() <= 1.0


def test_the_block_dct_of_a_flat_block_has_only_its_first_coefficient() -> None:
    magnitudes = BlockDct()(torch.full((1, 3, 16, 16), 0.8))
    assert magnitudes[:, 0].min() > 1.0
    assert magnitudes[:, 1:].max() < 1e-3


def test_the_block_dct_keeps_the_energy_of_a_block() -> None:
    grey = torch.rand(1, 1, 8, 8)
    magnitudes = BlockDct()(grey.expand(1, 3, 8, 8))
    coefficients = torch.expm1(magnitudes * 4.0)
    assert torch.isclose((coefficients**2).sum(), ((grey * 255 - 127.5) ** 2).sum(), rtol=1e-3)


def test_block_statistics_say_what_each_block_is_like_and_how_unusual_that_is() -> None:
    statistics, residuals = BlockStatistics(), Residuals()
    picture = torch.full((1, 3, 64, 64), 0.5)
    picture[..., 16:24, 24:32] += torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    seen = statistics(picture, residuals(picture))
    assert seen.shape == (1, BlockStatistics.channels, 8, 8)
    unusual = seen[0, BlockStatistics.channels // 2 :].abs().mean(0)
    assert divmod(int(unusual.argmax()), 8) == (2, 3)


def test_a_picture_that_is_the_same_everywhere_has_no_unusual_place() -> None:
    assert z_scores(torch.full((1, 4, 8, 8), 3.0)).abs().max() < 1e-3
    assert z_scores(torch.full((1, 4, 1, 1), 3.0)).abs().max() == 0.0
