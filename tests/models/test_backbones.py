"""Backbones: shapes, and weights from a file. All weights are random, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from model_archive.networks import backbones
from model_archive.networks.backbones import STRIDES, WIDTHS, pyramid
from services.core.errors import Broken


@pytest.fixture(scope="module")
def classifier() -> dict[str, Tensor]:
    """A whole ConvNeXt-T as `timm` names its tensors."""
    torch.manual_seed(5)
    weights: dict[str, Tensor] = timm.create_model("convnext_tiny", pretrained=False).state_dict()
    return weights


@pytest.mark.parametrize("name", WIDTHS)
def test_a_pyramid_has_four_maps_of_the_widths_and_sizes_that_it_names(name: str) -> None:
    made = pyramid(name).eval()
    with torch.inference_mode():
        maps = made(torch.rand(1, 3, 64, 96))
    assert made.widths == WIDTHS[name]
    assert [tuple(each.shape) for each in maps] == [
        (1, width, 64 // stride, 96 // stride) for width, stride in zip(made.widths, STRIDES, strict=True)
    ]


def test_a_picture_that_is_no_multiple_of_32_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        pyramid("convnext_tiny")(torch.rand(1, 3, 48, 64))


@pytest.mark.parametrize("name", ["tiny", "resnet50"])
def test_a_name_without_a_backbone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has no backbone"):
        pyramid(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_weights_of_a_whole_classifier_make_its_features(
    dtype: torch.dtype, classifier: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "convnext.safetensors"
    save_file({key: value.to(dtype) for key, value in classifier.items()}, file)
    whole = timm.create_model("convnext_tiny", pretrained=False).eval()
    whole.load_state_dict({key: value.to(dtype).float() for key, value in classifier.items()})
    made = pyramid("convnext_tiny", file).eval()
    rgb = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        deepest = made(rgb)[-1]
        expected = whole.forward_features((rgb - made.mean) / made.deviation)
    torch.testing.assert_close(deepest, expected)


def test_the_weights_of_features_alone_are_taken_as_well(tmp_path: Path) -> None:
    file = tmp_path / "features.safetensors"
    first = pyramid("convnext_tiny")
    save_file(first.features.state_dict(), file)
    again = pyramid("convnext_tiny", file)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {key: value for key, value in tensors.items() if key != "stem.0.weight"},
        lambda tensors: {**tensors, "stages.9.weight": torch.zeros(1)},
        lambda tensors: {**tensors, "stem.0.weight": torch.zeros(7)},
    ],
    ids=["one missing", "one too many", "one of another shape"],
)
def test_a_file_that_does_not_fit_is_refused_with_what_to_do(
    change: Change, classifier: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    save_file(change(classifier), file)
    with pytest.raises(Broken, match=r"does not fit convnext_tiny: 1 tensors .* --backbone-weights"):
        pyramid("convnext_tiny", file)


@pytest.mark.parametrize("content", [None, b"nonsense"], ids=["missing", "damaged"])
def test_a_missing_or_damaged_file_is_refused_with_what_to_do(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Broken, match=r"--backbone-weights or PENTIMENTO_BACKBONE_WEIGHTS; it is never downloaded"):
        pyramid("convnext_tiny", file)


def test_the_backbone_inside_a_network_is_given_its_weights(classifier: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "convnext.safetensors"
    save_file(classifier, file)
    network = torch.nn.Sequential(pyramid("convnext_tiny"))
    backbones.restore(network, file)
    assert torch.equal(network[0].features.state_dict()["stem_0.weight"], classifier["stem.0.weight"])
    with pytest.raises(ValueError, match="has 0 backbones"):
        backbones.restore(torch.nn.Identity(), file)
