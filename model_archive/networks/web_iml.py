"""The single-image network: finds manipulation in an upload without any original.

In: [B,3,H,W] float32 0..1 RGB at the upload's own resolution where that is possible; H and W multiples of 16.
Out: `Localisation`. Named after Web-IML (arXiv 2508.20987), whose two ideas it keeps in a small form of our own:
features of several scales seen together, and a second pass that corrects the first mask. Its inputs are RGB, high-pass
residuals and statistics of 8x8 blocks (see `inputs`), because small networks without pretraining do best on forensic
inputs; z-scores over the picture point at what is odd in it, an idea of ManTraNet (Wu et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks.blocks import (
    Anomaly,
    Context,
    ConvNorm,
    ImageHead,
    Localisation,
    Residual,
    Stage,
    enlarged,
)
from model_archive.networks.inputs import BlockStatistics, Residuals

CHANNELS = 3


class WebImlNetwork(nn.Module):
    """Encoder at 1/2 .. 1/16 of the size; mask at 1/4, corrected once, then sharpened with features at 1/2."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], fused: int) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.residuals = Residuals()
        self.statistics = BlockStatistics()
        self.stem = nn.Sequential(
            ConvNorm(CHANNELS + Residuals.channels, first, 6, 2), *(Residual(first) for _ in range(depths[0]))
        )
        self.quarter = Stage(first, second, depths[1])
        self.to_eighth = ConvNorm(second, third, 2, 2)
        self.from_blocks = nn.Sequential(ConvNorm(BlockStatistics.channels, third, 1), ConvNorm(third, third // 2))
        self.eighth = nn.Sequential(
            ConvNorm(third + third // 2, third, 1), *(Residual(third) for _ in range(depths[2])), Anomaly(third)
        )
        self.sixteenth = nn.Sequential(Stage(third, fourth, depths[3]), Context(fourth), Anomaly(fourth))
        self.perception = _Perception((second, third, fourth), fused)
        self.coarse_head = nn.Conv2d(fused, 1, 1)
        self.rectification = _Rectification(fused)
        self.sharpen = ConvNorm(first + fused // 2, fused // 2)
        self.narrow = ConvNorm(fused, fused // 2, 1)
        self.fine_head = nn.Conv2d(fused // 2, 1, 1)
        self.image_head = ImageHead(fourth)

    def forward(self, x: Tensor) -> Localisation:
        """[B,3,H,W] float32 0..1 -> mask logits [B,1,H,W], image logit [B], first-pass logits [B,1,H/4,W/4]."""
        x = x[:, :CHANNELS]
        residuals = self.residuals(x)
        half = self.stem(torch.cat([x * 2.0 - 1.0, residuals], dim=1))
        quarter = self.quarter(half)
        blocks = self.from_blocks(self.statistics(x, residuals))
        eighth = self.eighth(torch.cat([self.to_eighth(quarter), blocks], dim=1))
        deep = self.sixteenth(eighth)
        fused = self.perception(quarter, eighth, deep)
        coarse = self.coarse_head(fused)
        fused = self.rectification(fused, coarse)
        fine = self.sharpen(torch.cat([half, enlarged(self.narrow(fused), half)], dim=1))
        mask = self.fine_head(fine) + enlarged(coarse, half)
        image = self.image_head(deep, functional.avg_pool2d(mask, 2))
        return Localisation(enlarged(mask.float(), x), image, coarse.float())


class _Perception(nn.Module):
    """Multi-scale perception: all levels brought to one width and to the largest size, then seen together."""

    def __init__(self, widths: Sequence[int], fused: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(ConvNorm(width, fused, 1) for width in widths)
        self.fuse = ConvNorm(fused * len(widths), fused)

    def forward(self, *levels: Tensor) -> Tensor:
        """[B,C_i,h_i,w_i], largest first -> [B,fused,h_0,w_0]."""
        narrowed = [project(level) for project, level in zip(self.project, levels, strict=True)]
        fused: Tensor = self.fuse(torch.cat([enlarged(level, narrowed[0]) for level in narrowed], dim=1))
        return fused


class _Rectification(nn.Module):
    """Self-rectification: each place is compared with the mean of what the first mask calls forged and of the rest.

    A place that looks like the rest although the mask holds it forged (or the other way round) can so be corrected.
    """

    def __init__(self, fused: int) -> None:
        super().__init__()
        self.refine = nn.Sequential(ConvNorm(fused + 3, fused), Residual(fused))

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """[B,F,h,w] and first logits [B,1,h,w] -> corrected features [B,F,h,w]."""
        batch, _, height, width = features.shape
        chance = torch.sigmoid(coarse.float()).flatten(2)
        weight = torch.cat([chance, 1.0 - chance], dim=1)
        weight = weight / (weight.sum(2, keepdim=True) + 1e-3)
        values = functional.normalize(features.float().flatten(2), dim=1, eps=1e-4)
        means = functional.normalize(weight @ values.transpose(1, 2), dim=2, eps=1e-4)
        likeness = (means @ values).reshape(batch, 2, height, width)
        seen = torch.cat([likeness, chance.reshape(batch, 1, height, width)], dim=1)
        refined: Tensor = self.refine(torch.cat([features, seen.to(features.dtype)], dim=1))
        return refined
