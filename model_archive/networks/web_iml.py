"""The single-image network: finds manipulation in an upload without any original.

In: [B,4,H,W] float32 0..1, RGB at the upload's own resolution and JPEG's steps of luma repeated over it (0 where there
are none); H and W multiples of 32. Out: `Localisation`. Named after Web-IML (arXiv 2508.20987), whose two ideas it
keeps in a form of our own: features of several scales seen together, and a second pass that corrects the first mask.
Its inputs are RGB, high-pass residuals and statistics of 8x8 blocks (`inputs`), because small networks without
pretraining do best on forensic inputs; z-scores over the picture point at what is odd in it, an idea of ManTraNet (Wu
et al., CVPR 2019). Most of the work is done at an eighth of the size, where a place is one JPEG block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks.backbones import Pyramid
from model_archive.networks.blocks import (
    Anomaly,
    Context,
    ConvNext,
    ConvNorm,
    ImageHead,
    Localisation,
    Residual,
    Stage,
    enlarged,
)
from model_archive.networks.inputs import BLOCK, BlockStatistics, Residuals

RGB = 3
_NOTHING = (0.0, 0.0, 0.0)


class WebImlNetwork(nn.Module):
    """Encoder at 1/2 .. 1/16 of the size; first mask at 1/8, corrected at 1/4, sharpened with features at 1/2."""

    def __init__(
        self, widths: Sequence[int], depths: Sequence[int], fused: int, backbone: Pyramid | None = None
    ) -> None:
        """`widths` and `depths` are those of the encoder's four levels, `fused` the width of what sees them together.
        A `backbone` adds what it sees of RGB to the levels at 1/4, 1/8 and 1/16."""
        super().__init__()
        first, second, third, fourth = widths
        self.backbone = None if backbone is None else _Seen(backbone, (second, third, fourth))
        self.residuals = Residuals()
        self.statistics = BlockStatistics()
        self.stem = nn.Sequential(
            ConvNorm(RGB + Residuals.channels, first, 6, 2), *(Residual(first) for _ in range(depths[0]))
        )
        self.quarter = Stage(first, second, depths[1])
        self.to_eighth = ConvNorm(second, third, 2, 2)
        self.from_blocks = nn.Sequential(ConvNorm(BlockStatistics.channels, third, 1), ConvNorm(third, third // 2))
        self.eighth = nn.Sequential(
            ConvNorm(third + third // 2, third, 1), *(ConvNext(third) for _ in range(depths[2])), Anomaly(third)
        )
        self.sixteenth = nn.Sequential(
            ConvNorm(third, fourth, 2, 2),
            *(ConvNext(fourth) for _ in range(depths[3])),
            Context(fourth),
            Anomaly(fourth),
        )
        self.perception = _Perception((second, third, fourth), fused)
        self.coarse_head = nn.Conv2d(fused, 1, 1)
        corrected = 3 * fused // 8
        self.rectification = _Rectification(second, fused, corrected)
        self.edge_head = nn.Conv2d(corrected, 1, 1)
        self.sharpen = ConvNorm(first + corrected, fused // 4)
        self.fine_head = nn.Conv2d(fused // 4, 1, 1)
        self.image_head = ImageHead(fourth)

    def forward(self, x: Tensor) -> Localisation:
        """[B,4,H,W] float32 0..1 -> mask logits [B,1,H,W], image logit [B], first-pass logits [B,1,H/8,W/8] and those
        of the outline [B,1,H/4,W/4]."""
        rgb, steps = x[:, :RGB], x[:, RGB, :BLOCK, :BLOCK].flatten(1).float() * 255.0
        residuals = self.residuals(rgb)
        half = self.stem(torch.cat([rgb * 2.0 - 1.0, residuals], dim=1))
        seen = _NOTHING if self.backbone is None else self.backbone(rgb)
        quarter = self.quarter(half) + seen[0]
        blocks = self.from_blocks(self.statistics(rgb, residuals, steps))
        eighth = self.eighth(torch.cat([self.to_eighth(quarter), blocks], dim=1)) + seen[1]
        deep = self.sixteenth(eighth) + seen[2]
        fused = self.perception(quarter, eighth, deep)
        coarse = self.coarse_head(fused)
        corrected = self.rectification(quarter, fused, coarse)
        fine = self.sharpen(torch.cat([half, enlarged(corrected, half)], dim=1))
        mask = self.fine_head(fine) + enlarged(coarse, half)
        image = self.image_head(deep, functional.avg_pool2d(mask, 2))
        return Localisation(enlarged(mask.float(), x), image, coarse.float(), self.edge_head(corrected).float())


class _Seen(nn.Module):
    """A backbone's maps in the widths of our levels; its deepest is laid into the one above."""

    def __init__(self, backbone: Pyramid, widths: Sequence[int]) -> None:
        super().__init__()
        self.pyramid = backbone
        fourth, eighth, sixteenth, last = backbone.widths
        inputs = (fourth, eighth, sixteenth + last)
        self.project = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in zip(inputs, widths, strict=True))

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """[B,3,H,W] -> [B,C,H/4,W/4], [B,C,H/8,W/8], [B,C,H/16,W/16]."""
        fourth, eighth, sixteenth, last = self.pyramid(rgb)
        deep = torch.cat([sixteenth, enlarged(last, sixteenth)], dim=1)
        maps = zip(self.project, (fourth, eighth, deep), strict=True)
        return tuple(project(level) for project, level in maps)


class _Perception(nn.Module):
    """Multi-scale perception: a level at 1/4, one at 1/8 and one at 1/16 of the size brought to one width and to 1/8,
    then seen together."""

    def __init__(self, widths: Sequence[int], fused: int) -> None:
        super().__init__()
        fine, middle, deep = widths
        self.fine, self.middle = ConvNorm(fine, fused, 2, 2), ConvNorm(middle, fused, 1)
        self.deep = ConvNorm(deep, fused, 1)
        self.fuse = nn.Sequential(ConvNorm(3 * fused, fused), ConvNext(fused))

    def forward(self, fine: Tensor, middle: Tensor, deep: Tensor) -> Tensor:
        """[B,C_i,h_i,w_i], largest first -> [B,fused,h,w] of the middle one's size."""
        levels = [self.fine(fine), self.middle(middle), enlarged(self.deep(deep), middle)]
        fused: Tensor = self.fuse(torch.cat(levels, dim=1))
        return fused


class _Rectification(nn.Module):
    """Self-rectification: each place is compared with the mean of what the first mask calls forged and of the rest.

    A place that looks like the rest although the mask holds it forged (or the other way round) can so be corrected, at
    twice the resolution of the first mask.
    """

    def __init__(self, fine: int, fused: int, outputs: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(fused, outputs, 1)
        self.refine = nn.Sequential(ConvNorm(fine + outputs + 3, outputs), Residual(outputs))

    def forward(self, fine: Tensor, features: Tensor, coarse: Tensor) -> Tensor:
        """[B,C,2h,2w], [B,F,h,w] and first logits [B,1,h,w] -> corrected features [B,outputs,2h,2w]."""
        batch, _, height, width = features.shape
        chance = torch.sigmoid(coarse.float()).flatten(2)
        weight = torch.cat([chance, 1.0 - chance], dim=1)
        weight = weight / (weight.sum(2, keepdim=True) + 1e-3)
        values = functional.normalize(features.float().flatten(2), dim=1, eps=1e-4)
        means = functional.normalize(weight @ values.transpose(1, 2), dim=2, eps=1e-4)
        likeness = (means @ values).reshape(batch, 2, height, width)
        seen = torch.cat([likeness, chance.reshape(batch, 1, height, width)], dim=1).to(features.dtype)
        coarse_view = enlarged(torch.cat([self.narrow(features), seen], dim=1), fine)
        refined: Tensor = self.refine(torch.cat([fine, coarse_view], dim=1))
        return refined
