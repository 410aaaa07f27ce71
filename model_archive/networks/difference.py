"""The pair network: finds where an upload differs from its original in a way that saving does not explain.

In: [B,9,H,W] float32 0..1: the upload, the aligned original, |upload - original|, RGB each; H and W multiples of 16.
Out: `Localisation`. The nine channels, the hierarchical encoder and the auxiliary head (weight 0.5 in the loss) follow
"difference-aware semantic segmentation" in arXiv 2508.20987; widths, depths and the decoder are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model_archive.networks.blocks import Context, ConvNorm, ImageHead, Localisation, Residual, Stage, enlarged

CHANNELS = 9


class DifferenceNetwork(nn.Module):
    """Encoder at 1/2, 1/4, 1/8 and 1/16 of the size, decoder back to 1/2. `widths` and `depths` are per level."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Sequential(ConvNorm(CHANNELS, first, 4, 2), *(Residual(first) for _ in range(depths[0])))
        self.quarter = Stage(first, second, depths[1])
        self.eighth = Stage(second, third, depths[2])
        self.sixteenth = nn.Sequential(Stage(third, fourth, depths[3]), Context(fourth))
        self.up_eighth = _Merge(fourth, third, third)
        self.up_quarter = _Merge(third, second, second)
        self.up_half = _Merge(second, first, first)
        self.head = nn.Conv2d(first, 1, 1)
        self.auxiliary = nn.Conv2d(third, 1, 1)
        self.image_head = ImageHead(fourth)

    def forward(self, x: Tensor) -> Localisation:
        """[B,9,H,W] float32 0..1 -> mask logits [B,1,H,W], image logit [B], auxiliary logits [B,1,H/8,W/8]."""
        half = self.stem(_centred(x))
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        deep = self.sixteenth(eighth)
        merged = self.up_eighth(deep, eighth)
        mask = self.head(self.up_half(self.up_quarter(merged, quarter), half))
        image = self.image_head(deep, mask)
        return Localisation(enlarged(mask.float(), x), image, self.auxiliary(merged).float())


class _Merge(nn.Module):
    """A deeper level enlarged and joined with the one above it."""

    def __init__(self, deep: int, shallow: int, outputs: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(deep, outputs, 1)
        self.join = ConvNorm(outputs + shallow, outputs)

    def forward(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """[B,D,h,w] and [B,S,2h,2w] -> [B,O,2h,2w]."""
        joined: Tensor = self.join(torch.cat([enlarged(self.narrow(deep), shallow), shallow], dim=1))
        return joined


def _centred(x: Tensor) -> Tensor:
    """Pictures around zero, and the difference stretched: small changes are what matters."""
    return torch.cat([x[:, :6] * 2.0 - 1.0, (x[:, 6:] * 8.0).clamp(max=2.0)], dim=1)
