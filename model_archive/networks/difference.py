"""The network for edits in place (SPG): finds where an upload differs from its original in a way that saving does not
explain. "Difference-aware semantic segmentation", DASS.

In: [B,9,H,W] float32 0..1: the upload, the aligned original, |upload - original|, RGB each; H and W multiples of 32.
Out: `Localisation`. The nine channels, the hierarchical backbone, the UPer head (Xiao et al., ECCV 2018: pyramid
pooling, then a feature pyramid, all levels fused) and the auxiliary FCN head that counts half in the loss follow arXiv
2508.20987; widths, depths and the last step back to half of the size are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_archive.networks.blocks import ConvNorm, ImageHead, Localisation, Residual, Stage, enlarged

CHANNELS = 9
POOLED = (1, 2, 3, 6)
"""Grids of the pyramid pooling: what the picture is like as a whole, in quarters, and so on."""


class DifferenceNetwork(nn.Module):
    """Backbone at 1/2 .. 1/32 of the size, UPer head at 1/4, mask at 1/2. `widths` and `depths` are per level.

    `channels` is 9 for the pair alone; networks that see more about it beside the pair take more.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], fused: int, channels: int = CHANNELS) -> None:
        super().__init__()
        stem = [Residual(widths[0]) for _ in range(depths[0])]
        self.stem = nn.Sequential(ConvNorm(channels, widths[0], 4, 2), *stem)
        self.stages = nn.ModuleList(
            Stage(*step) for step in zip(widths[:-1], widths[1:], depths[1:], strict=True)
        )  # 1/4, 1/8, 1/16, 1/32
        self.head = UperHead(widths[1:], fused)
        self.narrow = ConvNorm(fused, widths[0], 1)
        self.sharpen = ConvNorm(2 * widths[0], widths[0])
        self.mask = nn.Conv2d(widths[0], 1, 1)
        self.auxiliary = nn.Sequential(ConvNorm(widths[3], fused), nn.Conv2d(fused, 1, 1))
        self.image_head = ImageHead(widths[-1])

    def forward(self, x: Tensor) -> Localisation:
        """[B,C,H,W] float32 0..1 -> mask logits [B,1,H,W], image logit [B], auxiliary logits [B,1,H/16,W/16]."""
        half = self.stem(centred(x))
        levels = []
        level = half
        for stage in self.stages:
            level = stage(level)
            levels.append(level)
        seen = enlarged(self.narrow(self.head(levels)), half)
        mask = self.mask(self.sharpen(torch.cat([seen, half], dim=1))).float()
        return Localisation(enlarged(mask, x), self.image_head(levels[-1], mask), self.auxiliary(levels[-2]).float())


class UperHead(nn.Module):
    """Pyramid pooling on the deepest level, a feature pyramid down to the finest, all levels fused at its size."""

    def __init__(self, widths: Sequence[int], fused: int) -> None:
        super().__init__()
        self.pooled = nn.ModuleList(nn.Sequential(nn.Conv2d(widths[-1], fused // 2, 1), nn.ReLU()) for _ in POOLED)
        self.deepest = ConvNorm(widths[-1] + len(POOLED) * (fused // 2), fused)
        self.lateral = nn.ModuleList(ConvNorm(width, fused, 1) for width in widths[:-1])
        self.smooth = nn.ModuleList(ConvNorm(fused, fused) for _ in widths[:-1])
        self.fuse = nn.Sequential(ConvNorm(len(widths) * fused, fused, 1), ConvNorm(fused, fused))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels [B,C_i,h_i,w_i], finest first -> [B,F,h_0,w_0]."""
        deepest = levels[-1]
        pooled = [
            enlarged(layer(nn.functional.adaptive_avg_pool2d(deepest, grid)), deepest)
            for grid, layer in zip(POOLED, self.pooled, strict=True)
        ]
        merged = [self.deepest(torch.cat([deepest, *pooled], dim=1))]
        for level, lateral in zip(levels[-2::-1], reversed(self.lateral), strict=True):
            merged.append(lateral(level) + enlarged(merged[-1], level))
        coarse, fine = merged[:1], merged[1:]
        smoothed = [*coarse, *(layer(level) for layer, level in zip(reversed(self.smooth), fine, strict=True))]
        joined: Tensor = self.fuse(torch.cat([enlarged(level, levels[0]) for level in smoothed], dim=1))
        return joined


def centred(x: Tensor) -> Tensor:
    """Pictures around zero, and the difference stretched, since small changes are what matters; the rest as it is."""
    return torch.cat([x[:, :6] * 2.0 - 1.0, (x[:, 6:9] * 8.0).clamp(max=2.0), x[:, 9:]], dim=1)
