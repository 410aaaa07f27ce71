"""Parts that several networks are made of. In: tensors [B,C,H,W] float32. Out: the same. No files, no settings."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Localisation(NamedTuple):
    """What every localisation network answers.

    `mask` [B,1,H,W] logits at the input's size; `image` [B] logit of "something in it was manipulated", not yet
    calibrated; `coarse` [B,1,h,w] logits of the first or auxiliary mask at a lower size, for the loss; `edge` [B,1,h,w]
    logits of "the outline of the mask runs here", of networks that are told of outlines.
    """

    mask: Tensor
    image: Tensor
    coarse: Tensor
    edge: Tensor | None = None


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, ReLU; keeps the size at stride 1 and halves it at stride 2 (even sides)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - stride + 1) // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions with a skip. Dense ones: on CPUs they reach many times the speed of depthwise ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return functional.relu(x + self.second(self.first(x)))


class ConvNext(nn.Module):
    """A block of ConvNeXt (Liu et al., CVPR 2022): 7x7 depthwise, layer norm, a wide pointwise pair, all scaled down
    at the start. Where maps are small it sees further than `Residual` for less work."""

    def __init__(self, width: int, expansion: int = 3) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Conv2d(width, expansion * width, 1)
        self.narrow = nn.Conv2d(expansion * width, width, 1)
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        spread = self.norm(self.spread(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        changed: Tensor = self.narrow(functional.gelu(self.widen(spread)))
        return x + self.scale * changed


class Stage(nn.Sequential):
    """Halves the size, changes the width, then `depth` residual blocks."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__(ConvNorm(inputs, outputs, 2, 2), *(Residual(outputs) for _ in range(depth)))


class Context(nn.Module):
    """Tells every place what the picture is like as a whole: mean and spread of each channel, added back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        return functional.relu(x + self.project(moments(x))[:, :, None, None])


class Anomaly(nn.Module):
    """Tells every place how unusual it is in its picture: z-scores of each channel and their sizes, added back.

    Forged places are seldom odd in themselves, but odd among their neighbours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,H,W]."""
        odd = z_scores(x)
        return functional.relu(x + self.project(torch.cat([odd, odd.abs()], dim=1)))


class ImageHead(nn.Module):
    """The picture's own logit from the deepest features and the mask, both detached: a joint head hurts masks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * width + 5, 48), nn.ReLU(inplace=True), nn.Linear(48, 1))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[B,C,h,w] features and [B,1,h,w] mask logits -> [B] logits."""
        features, logits = features.detach().float(), mask.detach().float().flatten(1).clamp(-12, 12)
        ranked = logits.topk(max(1, logits.shape[1] // 20), dim=1).values
        count = logits.shape[1]
        peaks = [ranked[:, : max(1, count // part)].mean(1) for part in (1000, 200, 50, 20)]
        area = torch.sigmoid(logits).mean(1)
        seen = torch.cat([moments(features), torch.stack([*peaks, area * 10.0], dim=1)], dim=1)
        logit: Tensor = self.layers(seen)
        return logit[:, 0]


def moments(x: Tensor) -> Tensor:
    """Mean and standard deviation over places: [B,C,H,W] -> [B,2C] float32."""
    flat = x.float().flatten(2)
    return torch.cat([flat.mean(2), flat.var(2, unbiased=False).add(1e-6).sqrt()], dim=1)


def z_scores(x: Tensor) -> Tensor:
    """How many standard deviations each place is from its picture's mean, per channel: [B,C,H,W] float32 -4..4."""
    if x.shape[-2:].numel() == 1:
        return torch.zeros_like(x, dtype=torch.float32)  # a single place is never unusual
    return functional.instance_norm(x.float()).clamp(-4.0, 4.0)


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the height and width of `like`, bilinear."""
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
