"""The embedder: one vector a picture or part of it, near to that of any copy of it and far from that of anything else.

In: [B,3,S,S] float32 0..1 RGB, regions of a picture as `preprocess.region_inputs` makes them. Out: [B,64] float32 of
length 1, compared by their inner product. Generalised-mean pooling (GeM; Radenovic et al., TPAMI 2019) lets what stands
out decide rather than what there is most of, as in SSCD (Pizzi et al., "A Self-Supervised Descriptor for Image Copy
Detection", CVPR 2022), whose loss it is fitted with (`trainer.contrast`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks.blocks import ConvNext, ConvNorm, Residual, Stage

LENGTH = 64
"""Numbers of a vector."""

_FAINT = 1e-5  # least activation: its power and logarithm must stay finite


class GeneralisedMean(nn.Module):
    """(mean over places of x^p)^(1/p), p learned: 1 is the mean, much more the maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] of 0 or more -> [B,C] float32."""
        power = self.power.float().clamp(1.0, 8.0)
        return x.float().clamp(min=_FAINT).pow(power).mean((2, 3)).pow(1.0 / power)


class EmbedderNetwork(nn.Module):
    """Levels from 1/2 to 1/16 of the size, dense blocks where maps are large and ConvNeXt's where they are small, a
    generalised mean of the last, one layer."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], last: int, length: int = LENGTH) -> None:
        super().__init__()
        stem = [Residual(widths[0]) for _ in range(depths[0])]
        self.stem = nn.Sequential(ConvNorm(3, widths[0], 4, 2), *stem)
        self.stages = nn.Sequential(*(Stage(*step) for step in zip(widths[:-1], widths[1:], depths[1:], strict=True)))
        self.seen = nn.Sequential(*(ConvNext(widths[-1]) for _ in range(last)), nn.ReLU())
        self.pool = GeneralisedMean()
        self.head = nn.Linear(widths[-1], length)

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,S,S] float32 0..1 RGB, S a multiple of 16 -> [B,L] float32 of length 1."""
        pooled = self.pool(self.seen(self.stages(self.stem(x * 4.0 - 2.0))))
        return functional.normalize(self.head(pooled).float(), dim=1)
