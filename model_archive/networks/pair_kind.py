"""The classifier of pairs: is the main area of the two pictures the same?

In: [B,10,S,S] float32 0..1, an aligned pair as `preprocess.kind_input` makes it. Out: [B,3] logits of `KINDS`. Learned
without any labels, from pairs that are made from photographs, as in arXiv 2508.20987. There the pair comes unaligned
and framing and crop are predicted too; here alignment has found both already, and their answer is among the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from model_archive.networks.blocks import ConvNorm, Residual, Stage, moments
from model_archive.networks.difference import centred

CHANNELS = 10
KINDS = ("spg", "sdg", "unrelated")


class PairKindNetwork(nn.Module):
    """Four levels from 1/2 to 1/16 of the size, mean and spread of the last, two layers."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        stem = [Residual(widths[0]) for _ in range(depths[0])]
        self.stem = nn.Sequential(ConvNorm(CHANNELS, widths[0], 4, 2), *stem)
        self.stages = nn.Sequential(*(Stage(*step) for step in zip(widths[:-1], widths[1:], depths[1:], strict=True)))
        self.head = nn.Sequential(nn.Linear(2 * widths[-1], 64), nn.ReLU(inplace=True), nn.Linear(64, len(KINDS)))

    def forward(self, x: Tensor) -> Tensor:
        """[B,10,S,S] float32 0..1 -> [B,3] float32 logits of spg, sdg, unrelated."""
        logits: Tensor = self.head(moments(self.stages(self.stem(centred(x)))))
        return logits
