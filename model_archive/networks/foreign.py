"""Embedders that others trained on many pictures, in place of ours: larger, slower, better.

In: a name and a safetensors file on this machine. Out: a frozen network that answers what `embedder.EmbedderNetwork`
does: [B,3,S,S] float32 0..1 RGB to [B,D] float32 of length 1. Nothing is ever fetched; `timm` is imported only here.

- `dinov2`: the class token of DINOv2's ViT-S/14 (Oquab et al., TMLR 2024), D = 384, with `timm`'s names;
- `sscd`: SSCD's ResNet-50 (Pizzi et al., CVPR 2022), D = 512: generalised mean with p = 3, then one layer, with the
  names of its `torchvision` models (`backbone.conv1.weight` ..., the prefix may be missing), as safetensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks import prior
from services.core.errors import Broken

SIDE = 224
"""Pixels of a region's side: a multiple of DINOv2's 14 and of ResNet's 32."""

SSCD_LENGTH = 512
_SSCD_POWER = 3.0
_SSCD_PREFIX = "backbone."
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which both were trained with
_FAINT = 1e-6


class Foreign(nn.Module):
    """A frozen network and `look`, which gives its vectors; `version` names it and its file."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, look: Callable[[Any, Tensor], Tensor], version: str) -> None:
        super().__init__()
        self.network, self.look, self.version = network, look, version
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,S,S] float32 0..1 RGB -> [B,D] float32 of length 1."""
        return functional.normalize(self.look(self.network, (x - self.mean) / self.deviation).float(), dim=1)


def sscd() -> nn.Module:
    """SSCD's ResNet-50, with random weights. Raises Broken where `timm` is not installed."""
    try:
        import timm
    except ImportError as error:
        raise Broken(f"the embedder sscd needs timm beside torch: {error}. Install pentimento[models].") from error
    network: nn.Module = timm.create_model("resnet50", pretrained=False, num_classes=SSCD_LENGTH)
    return network


def class_token(vit: Any, x: Tensor) -> Tensor:
    """[B,3,S,S] normalised -> the class token [B,D] after the last norm."""
    tokens: Tensor = vit.forward_features(x)
    return tokens[:, 0]


def pooled(resnet: Any, x: Tensor) -> Tensor:
    """[B,3,S,S] normalised -> the layer's answer [B,D] to the generalised mean of the last map."""
    seen = resnet.forward_features(x).clamp(min=_FAINT)
    vectors: Tensor = resnet.fc(seen.pow(_SSCD_POWER).mean((2, 3)).pow(1.0 / _SSCD_POWER))
    return vectors


NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor]]] = {
    "dinov2": (prior.dinov2, class_token),
    "sscd": (sscd, pooled),
}
"""By name: what builds the network, and what takes its vectors."""


def load(name: str, path: Path) -> Foreign:
    """A network by its name with the weights of a file (float16 is widened); every tensor must be there, and no other.

    Raises Broken for an unknown name, and where the file is missing or damaged or holds another network.
    """
    if name not in NETWORKS:
        raise Broken(f"no foreign embedder is called {name!r}; there are {', '.join(sorted(NETWORKS))}")
    architecture, look = NETWORKS[name]
    try:
        content = path.read_bytes()
        given = {key.removeprefix(_SSCD_PREFIX): value.float() for key, value in tensors_of(content).items()}
    except (OSError, SafetensorError) as error:
        raise Broken(f"{path} holds no embedder: {error}. Name a safetensors file of {name}.") from error
    network = architecture()
    for key in network.state_dict():
        if key.endswith("num_batches_tracked"):
            given.setdefault(key, torch.zeros((), dtype=torch.int64))  # counts steps of training; files leave it out
    try:
        network.load_state_dict(given, strict=True)
    except RuntimeError as error:
        fault = str(error)[:500]  # a wrong file has every tensor wrong, and all of them are listed
        raise Broken(f"{path} does not fit {name}: {fault}. Name a file of that network.") from error
    return Foreign(network, look, f"{name}+{hashlib.sha256(content).hexdigest()[:12]}")
