"""Fixed views of a picture in which editing leaves traces: high-pass residuals and statistics of JPEG's 8x8 blocks.

In: [B,3,H,W] float32 0..1 RGB and, where the file was a JPEG, its steps. Out: feature maps. Nothing here is learned.
The residual filters are the second- and third-order kernels of the "spatial rich model" for steganalysis (Fridrich and
Kodovsky, IEEE TIFS 7(3), 2012); the DCT grid is the one of JPEG (ITU-T T.81), anchored at the picture's upper left
corner, so pad only right and below.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_archive.networks.blocks import z_scores
from services.core.pixels import STANDARD_STEPS

BLOCK = 8
LUMA = (0.299, 0.587, 0.114)
LOW = (1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40)
"""The lowest frequencies but the mean, in JPEG's zigzag order, as places in a block row by row."""

STEPS = 13
"""Numbers of `Quantised` that say whether steps are known, and how coarse the first of them are."""

GROUPS = {"magnitudes": 64, "residuals": 9, "ghosts": 8, "grid": 16, "quantised": 60}
"""Views of a block and their channels, in the order of `BlockStatistics`."""

_REACH = 15  # quantised coefficients beyond are gathered: they are rare
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
    """What each 8x8 block is like, and how unusual that is in its picture.

    Five views (`GROUPS`), and the z-scores of each over the picture; last how coarse the JPEG was, as far as known.
    """

    channels = 2 * sum(GROUPS.values()) + STEPS

    def __init__(self) -> None:
        super().__init__()
        self.dct = BlockDct()
        self.ghosts = Ghosts()
        self.grid = GridPhases()
        self.quantised = Quantised()

    def forward(self, rgb: Tensor, residuals: Tensor, steps: Tensor) -> Tensor:
        """[B,3,H,W] 0..1, [B,9,H,W] -1..1 and JPEG's steps [B,64] (0: unknown), H and W multiples of 8
        -> [B,channels,H/8,W/8] float32, about -2..2."""
        with torch.autocast(rgb.device.type, enabled=False):
            grey = luma(rgb)
            coefficients = self.dct(grey)
            energy = torch.log(functional.avg_pool2d(residuals.float().abs(), BLOCK) + 0.02) / 2.0
            magnitude = torch.log1p(coefficients.abs()) / 4.0
            quantised, known = self.quantised(coefficients, steps)
            seen = torch.cat([magnitude, energy, self.ghosts(coefficients), self.grid(grey), quantised], dim=1)
            known = known[:, :, None, None].expand(-1, -1, *seen.shape[2:])
            return torch.cat([seen, z_scores(seen) / 2.0, known], dim=1)


class BlockDct(nn.Module):
    """The 64 DCT coefficients of each 8x8 block of luma: what JPEG quantises."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(BLOCK, dtype=torch.float32)
        waves = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / 16) * math.sqrt(2 / BLOCK)
        waves[0] /= math.sqrt(2.0)
        kernels = torch.einsum("uy,vx->uvyx", waves, waves).reshape(64, 1, BLOCK, BLOCK)
        self.register_buffer("weight", kernels, persistent=False)

    def forward(self, grey: Tensor) -> Tensor:
        """[B,1,H,W] float32 grey levels about 0, H and W multiples of 8 -> [B,64,H/8,W/8] float32, row by row."""
        return functional.conv2d(grey, self.weight, stride=BLOCK)


class Ghosts(nn.Module):
    """JPEG ghosts (Farid, IEEE TIFS 4(1), 2009) on the 8x8 grid: how far each block's low frequencies are from the
    steps that JPEG would give them at several qualities. It dips at a quality that the block was saved with before."""

    channels = 8
    qualities = (50, 60, 70, 75, 80, 85, 90, 95)
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        tables = torch.stack([standard_steps(quality)[list(LOW)] for quality in self.qualities])
        self.register_buffer("steps", tables[:, :, None, None], persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        """[B,64,h,w] -> [B,8,h,w] float32 0..1: mean distance to the next step, in steps, times two."""
        low = coefficients[:, list(LOW)]
        far = [(low / table - (low / table).round()).abs().mean(1) for table in self.steps]
        return torch.stack(far, dim=1) * 2.0


class GridPhases(nn.Module):
    """Where the edges of JPEG's blocks lie in each 8x8 block: strength of the third difference of luma by column and by
    row, as a share of the block's mean. A pasted part brings the phase of its own old grid along."""

    channels = 16
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        across = torch.zeros(1, 1, 1, 4)
        across[0, 0, 0] = torch.tensor([-1.0, 3.0, -3.0, 1.0])
        self.register_buffer("weight", across, persistent=False)

    def forward(self, grey: Tensor) -> Tensor:
        """[B,1,H,W] float32 grey levels, H and W multiples of 8 -> [B,16,H/8,W/8] float32, about -1..1."""
        phases = [self._columns(side) for side in (grey, grey.transpose(2, 3))]
        return torch.cat([phases[0], phases[1].transpose(2, 3)], dim=1)

    def _columns(self, grey: Tensor) -> Tensor:
        steep = functional.conv2d(functional.pad(grey, (1, 2, 0, 0), mode="replicate"), self.weight).abs()
        batch, _, height, width = steep.shape
        cells = steep.clamp(max=40.0).reshape(batch, height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(2)
        phases = cells.permute(0, 3, 1, 2)  # one channel for each column of a block
        return torch.log((phases + 0.5) / (phases.mean(1, keepdim=True) + 0.5))


class Quantised(nn.Module):
    """JPEG's own integers, won back from the decoded pixels and the file's steps, and how odd each is in the picture.

    Coefficients / steps, rounded, are what the file holds but for clipping (`docs/models.md` says how exactly). A block
    that was quantised twice falls on the crowded values of the picture's histogram, one that was pasted anywhere (Lin
    et al., Pattern Recognition 42(11), 2009): hence the logarithm of each value's count against its neighbours'.
    """

    channels = 12 * 5

    def forward(self, coefficients: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """[B,64,h,w] and [B,64] -> [B,60,h,w] float32, all 0 where steps are unknown, and [B,STEPS] about 0..1."""
        first = list(LOW[:12])
        known = (steps[:, first].amin(1) > 0).float()
        step = torch.where(steps[:, first] > 0, steps[:, first], torch.ones_like(steps[:, first]))
        whole = (coefficients[:, first] / step[:, :, None, None]).round().clamp(-_REACH, _REACH)
        size = whole.abs()
        bins = [(size == 0), (size == 1), (size == 2), (size > 2)]
        seen = torch.cat([self._crowding(whole), *(place.float() for place in bins)], dim=1)
        coarse = torch.cat([known[:, None], torch.log2(step) / 6.0 * known[:, None]], dim=1)
        return seen * known[:, None, None, None], coarse

    @staticmethod
    def _crowding(whole: Tensor) -> Tensor:
        """[B,12,h,w] integers -> logarithm of how much more common each is in the picture than those around it."""
        flat = (whole + _REACH).long().flatten(2)
        counts = torch.zeros(*flat.shape[:2], 2 * _REACH + 1, device=whole.device)
        counts.scatter_add_(2, flat, torch.ones_like(flat, dtype=counts.dtype))
        around = functional.avg_pool1d(counts, 7, 1, 3, count_include_pad=False)
        crowded = torch.log((counts + 2.0) / (around + 2.0))
        crowded[..., [0, -1]] = 0.0  # everything beyond the reach is gathered there
        return crowded.gather(2, flat).reshape(whole.shape)


def luma(rgb: Tensor) -> Tensor:
    """[B,3,H,W] 0..1 -> JPEG's luma [B,1,H,W] float32 in grey levels about 0: -128..127."""
    weight = torch.tensor(LUMA, device=rgb.device)[None, :, None, None]
    return (rgb.float() * weight).sum(1, keepdim=True) * 255.0 - 128.0


def standard_steps(quality: int) -> Tensor:
    """The 64 steps of luma at a quality 1..100, row by row: the table of ITU-T T.81 (K.1) as libjpeg scales it."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [min(255, max(1, (step * scale + 50) // 100)) for step in STANDARD_STEPS]
    return torch.tensor(steps, dtype=torch.float32)
