"""The one file with the networks' numbers: a name in, a freshly built network out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from model_archive.networks import backbones
from model_archive.networks.correlation import CorrelationNetwork
from model_archive.networks.difference import DifferenceNetwork
from model_archive.networks.embedder import EmbedderNetwork
from model_archive.networks.pair_kind import PairKindNetwork
from model_archive.networks.web_iml import WebImlNetwork

GRANULE = 32
"""All networks take heights and widths that are multiples of this."""


def _difference() -> nn.Module:
    return DifferenceNetwork(widths=(24, 48, 80, 128, 160), depths=(0, 1, 2, 2, 2), fused=48)


def _correlation() -> nn.Module:
    return CorrelationNetwork(widths=(16, 32, 56, 80, 96), depths=(0, 1, 1, 2, 1), fused=32)


def _embedder() -> nn.Module:
    return EmbedderNetwork(widths=(24, 40, 80, 160), depths=(0, 0, 1, 0), last=3)


def _pair_kind() -> nn.Module:
    return PairKindNetwork(widths=(24, 48, 72, 96), depths=(1, 1, 1, 1))


def _web_iml() -> nn.Module:
    return WebImlNetwork(widths=(24, 48, 112, 160), depths=(0, 1, 3, 3), fused=64)


def _web_iml_with(backbone: str) -> nn.Module:
    seen = backbones.pyramid(backbone)
    return WebImlNetwork(widths=(48, 96, 192, 320), depths=(1, 2, 3, 3), fused=128, backbone=seen)


WEB_IML = ("web_iml", *(f"web_iml_{backbone}" for backbone in backbones.WIDTHS))
"""Sizes of the single-image network, the shipped one first; the others have a ConvNeXt beside them."""


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "correlation": _correlation,
    "difference": _difference,
    "embedder": _embedder,
    "pair_kind": _pair_kind,
    "web_iml": _web_iml,
    **{f"web_iml_{backbone}": partial(_web_iml_with, backbone) for backbone in backbones.WIDTHS},
}
"""Builders by name. The weights they start with are random: load fitted ones with `model_archive.weights`."""


def build(name: str) -> nn.Module:
    """A new network by its name, channels last in memory, which CPUs run fastest. Raises ValueError if unknown."""
    if name not in NETWORKS:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(sorted(NETWORKS))}")
    network = NETWORKS[name]()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
