"""Backbones of the single-image network: what RGB is seen through, by size.

In: [B,3,H,W] float32 0..1 RGB. Out: four feature maps, at 1/4, 1/8, 1/16 and 1/32 of the size. `tiny` is none of them:
there the network's own small encoder does the work. The larger ones are ConvNeXt (Liu et al., CVPR 2022) as `timm` has
it, which is imported only for them. Weights are random, or come from a file on this machine; nothing is ever fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from services.core.errors import Broken

WEIGHTS = "PENTIMENTO_BACKBONE_WEIGHTS"
"""Environment: a safetensors file that fits start a backbone from. Unset or empty: from random weights."""

TINY = "tiny"
"""The size without a backbone."""

WIDTHS: Mapping[str, tuple[int, int, int, int]] = {
    "convnext_tiny": (96, 192, 384, 768),
    "convnext_small": (96, 192, 384, 768),
    "convnext_base": (128, 256, 512, 1024),
}
"""Channels of the four maps by backbone, in `timm`'s names. 28, 49 and 88 million parameters."""

STRIDES = (4, 8, 16, 32)
"""Pixels of the input to one place of each map."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which pretrained weights expect
_HEAD = ("head.", "norm_pre.")  # of a whole classifier: not part of a pyramid
_SHOWN = 5  # names of tensors in an error: a wrong file has all of them wrong


class Pyramid(nn.Module):
    """A backbone that answers its four feature maps. `name` is one of WIDTHS, `widths` are the maps' channels."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, features: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.widths = tuple(widths)
        self.features = features
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """[B,3,H,W] float32 0..1 RGB, H and W multiples of 32 -> [B,C_i,H/s,W/s] for s in STRIDES, largest first.

        Raises ValueError for other sizes.
        """
        height, width = rgb.shape[-2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            raise ValueError(f"a picture of {height} x {width} pixels is no multiple of {STRIDES[-1]}: pad it")
        maps: list[Tensor] = self.features((rgb - self.mean) / self.deviation)
        return maps

    def restore(self, path: Path) -> None:
        """Takes the weights of a safetensors file with `timm`'s names: of the whole classifier, or of its features.

        float16 and bfloat16 are widened. Every tensor of the backbone must be there, and no other but the classifier's
        head. Raises Broken where the file is missing or damaged or holds another network.
        """
        advice = f"Name a safetensors file of timm's {self.name} by --backbone-weights or {WEIGHTS}"
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise Broken(f"{path} holds no backbone: {error}. {advice}; it is never downloaded.") from error
        given = {_renamed(key): value.float() for key, value in tensors.items() if not key.startswith(_HEAD)}
        expected = self.features.state_dict()
        shapes = {key: tuple(value.shape) for key, value in given.items()}
        wrong = [key for key, value in expected.items() if shapes.get(key) != tuple(value.shape)]
        wrong += [key for key in given if key not in expected]
        if wrong:
            shown = ", ".join(wrong[:_SHOWN])
            raise Broken(
                f"{path} does not fit {self.name}: {len(wrong)} tensors are missing, too many or of another "
                f"shape ({shown}). {advice}."
            )
        self.features.load_state_dict(given)


def pyramid(name: str, weights: Path | None = None) -> Pyramid:
    """A backbone by its name, one of WIDTHS, with random weights or those of a file (see `Pyramid.restore`).

    Raises ValueError for a name that has none, which `tiny` is one of, and Broken where `timm` is not installed or the
    file does not fit.
    """
    if name not in WIDTHS:
        raise ValueError(f"{name!r} has no backbone; there are {', '.join(WIDTHS)}. {TINY!r} does without")
    try:
        import timm
    except ImportError as error:
        raise Broken(f"the backbone {name} needs timm beside torch: {error}. Install pentimento[models].") from error
    features: Any = timm.create_model(name, pretrained=False, features_only=True)
    made = Pyramid(name, features, WIDTHS[name])
    if weights is not None:
        made.restore(weights)
    return made


def restore(network: nn.Module, path: Path) -> None:
    """Gives the backbone inside a network the weights of a file.

    Raises ValueError where the network has no backbone, or several, and Broken where the file does not fit.
    """
    inside = [module for module in network.modules() if isinstance(module, Pyramid)]
    if len(inside) != 1:
        raise ValueError(
            f"{type(network).__name__} has {len(inside)} backbones, and {path} is for one: "
            f"choose a larger size of the network, or leave --backbone-weights and {WEIGHTS} out"
        )
    inside[0].restore(path)


def _renamed(key: str) -> str:
    """`stages.0.blocks...` of a classifier as `stages_0.blocks...`, which it is called among features."""
    for part in ("stem", "stages"):
        if key.startswith(f"{part}."):
            return f"{part}_{key.removeprefix(f'{part}.')}"
    return key
