"""What a fit makes small. Pure functions of logits and targets, all float32.

Pixels: binary cross-entropy, its hardest part once more (online hard example mining; Shrivastava et al., CVPR 2016),
and Dice on pictures that hold a forgery (Milletari et al., 3DV 2016). The auxiliary mask counts half, as in
arXiv 2508.20987.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model_archive.networks.blocks import Localisation
from model_archive.networks.registry import WEB_IML
from trainer import contrast


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Shares of the parts. `hard_share` is the share of all pixels that counts as hard; `temperature` and `spread`
    are those of `contrast`, for the embedder."""

    pixels: float = 1.0
    hard: float = 1.0
    dice: float = 0.5
    auxiliary: float = 0.5
    edge: float = 0.3
    image: float = 0.2
    hard_share: float = 0.12
    temperature: float = 0.07
    spread: float = 2.0


def localisation_loss(out: Localisation, mask: Tensor, weights: LossWeights) -> Tensor:
    """The loss of a batch; `mask` [B,1,H,W] float32 0 or 1. A picture is forged where its mask has any pixel."""
    small = functional.adaptive_avg_pool2d(mask, (out.coarse.shape[-2], out.coarse.shape[-1]))
    forged = (mask.flatten(1).amax(1) > 0).float()
    image = functional.binary_cross_entropy_with_logits(out.image.float(), forged)
    first = functional.binary_cross_entropy_with_logits(out.coarse, small)
    loss = mask_loss(out.mask, mask, weights) + weights.auxiliary * first + weights.image * image
    return loss if out.edge is None else loss + weights.edge * edge_loss(out.edge, mask)


def kind_loss(logits: Tensor, kind: Tensor, weights: LossWeights) -> Tensor:
    """Cross-entropy of kinds of pairs: [B,3] logits, [B] int64."""
    del weights
    return functional.cross_entropy(logits.float(), kind)


def copy_loss(vectors: Tensor, photo: Tensor, weights: LossWeights) -> Tensor:
    """Views of one photograph together, of different ones apart: [B,D] vectors of length 1, [B] int64."""
    near = contrast.info_nce(vectors.float(), photo, weights.temperature)
    return near + weights.spread * contrast.crowding(vectors.float(), photo)


LOSSES: dict[str, Callable[[Any, Tensor, LossWeights], Tensor]] = {
    "correlation": localisation_loss,
    "difference": localisation_loss,
    "embedder": copy_loss,
    "pair_kind": kind_loss,
    **dict.fromkeys(WEB_IML, localisation_loss),
}
"""What each network's fit makes small."""


def mask_loss(logits: Tensor, mask: Tensor, weights: LossWeights) -> Tensor:
    """Cross-entropy over all pixels, over the hardest ones, and Dice; [B,1,H,W] each."""
    each = functional.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    hardest = each.flatten().topk(max(1, int(each.numel() * weights.hard_share))).values.mean()
    return weights.pixels * each.mean() + weights.hard * 0.25 * hardest + weights.dice * dice(logits, mask)


def edge_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy and Dice of the outline: [B,1,h,w] logits, mask [B,1,H,W]. The outline is where a place of the
    smaller size, or a neighbour of it, is covered by the mask in part."""
    cell = mask.shape[-1] // logits.shape[-1]
    most = functional.max_pool2d(functional.max_pool2d(mask, cell), 3, 1, 1)
    least = -functional.max_pool2d(-functional.avg_pool2d(mask, cell).floor(), 3, 1, 1)
    outline = most - least
    return functional.binary_cross_entropy_with_logits(logits.float(), outline) + 0.3 * dice(logits.float(), outline)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - Dice coefficient, averaged over the pictures with a forgery; 0 where there are none."""
    chance, target = torch.sigmoid(logits).flatten(1), mask.flatten(1)
    forged = target.amax(1) > 0
    both = (chance * target).sum(1)
    loss = 1.0 - (2.0 * both + 1.0) / (chance.sum(1) + target.sum(1) + 1.0)
    return (loss * forged).sum() / forged.sum().clamp(min=1)
