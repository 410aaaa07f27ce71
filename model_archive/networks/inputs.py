"""Fixed views of a picture in which editing leaves traces: high-pass residuals and block-DCT magnitudes.

In: [B,3,H,W] float32 0..1 RGB. Out: feature maps. Nothing here is learned. The residual filters are the second- and
third-order kernels of the "spatial rich model" for steganalysis (Fridrich and Kodovsky, IEEE TIFS 7(3), 2012); the DCT
grid is the one of JPEG (ITU-T T.81), anchored at the picture's upper left corner, so pad only right and below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks.blocks import z_scores

BLOCK = 8
LUMA = (0.299, 0.587, 0.114)
_KV = (
    (-1, 2, -2, 2, -1),
    (2, -6, 8, -6, 2),
    (-2, 8, -12, 8, -2),
    (2, -6, 8, -6, 2),
    (-1, 2, -2, 2, -1),
)
_ACROSS = ((0,) * 5, (0,) * 5, (0, 1, -2, 1, 0), (0,) * 5, (0,) * 5)


class Residuals(nn.Module):
    """Three high-pass filters on each colour channel; a response of r * 3 grey levels becomes r / (1 + |r|)."""

    channels = 9
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.tensor(_ACROSS, dtype=torch.float32) / 2.0
        filters = torch.stack([torch.tensor(_KV, dtype=torch.float32) / 12.0, across, across.T])
        weight = torch.zeros(9, 3, 5, 5)  # dense with zeros: several times faster on CPUs than a grouped convolution
        for colour in range(3):
            weight[3 * colour : 3 * colour + 3, colour] = filters
        self.register_buffer("weight", weight * (255.0 / 3.0), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        """[B,3,H,W] float32 0..1 -> [B,9,H,W] float32 -1..1."""
        with torch.autocast(rgb.device.type, enabled=False):  # a residual is what half precision would round away
            padded = functional.pad(rgb.float(), (2, 2, 2, 2), mode="replicate")
            levels = functional.conv2d(padded, self.weight)
            return levels.div_(levels.abs().add_(1.0))


class BlockStatistics(nn.Module):
    """What each 8x8 block is like, and how unusual that is in its picture: DCT magnitudes, energy of the residuals,
    then the z-scores of both over the picture."""

    channels = 2 * (64 + Residuals.channels)

    def __init__(self) -> None:
        super().__init__()
        self.dct = BlockDct()

    def forward(self, rgb: Tensor, residuals: Tensor) -> Tensor:
        """[B,3,H,W] 0..1 and [B,9,H,W] -1..1, H and W multiples of 8 -> [B,146,H/8,W/8] float32, about -2..2."""
        with torch.autocast(rgb.device.type, enabled=False):
            energy = torch.log(functional.avg_pool2d(residuals.float().abs(), BLOCK) + 0.02) / 2.0
            seen = torch.cat([self.dct(rgb), energy], dim=1)
            return torch.cat([seen, z_scores(seen) / 2.0], dim=1)


class BlockDct(nn.Module):
    """Log magnitudes of the 64 DCT coefficients of each 8x8 block of luma: what JPEG quantises."""

    channels = 64
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(BLOCK, dtype=torch.float32)
        waves = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / 16) * math.sqrt(2 / BLOCK)
        waves[0] /= math.sqrt(2.0)
        kernels = torch.einsum("uy,vx->uvyx", waves, waves).reshape(64, 1, BLOCK, BLOCK)
        self.register_buffer("weight", kernels * 255.0, persistent=False)
        self.register_buffer("luma", torch.tensor(LUMA)[None, :, None, None], persistent=False)

    luma: Tensor

    def forward(self, rgb: Tensor) -> Tensor:
        """[B,3,H,W] float32 0..1, H and W multiples of 8 -> [B,64,H/8,W/8] float32, 0..about 2."""
        with torch.autocast(rgb.device.type, enabled=False):
            grey = (rgb.float() * self.luma).sum(1, keepdim=True) - 0.5
            coefficients = functional.conv2d(grey, self.weight, stride=BLOCK)
            return torch.log1p(coefficients.abs()) / 4.0
