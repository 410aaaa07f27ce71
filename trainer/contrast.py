"""What draws views of one photograph together and keeps all others apart. Pure functions of vectors and numbers.

InfoNCE (van den Oord et al., 2018; as NT-Xent over a batch of views in Chen et al., ICML 2020) and, as in SSCD (Pizzi
et al., CVPR 2022), an estimate of the vectors' differential entropy (Kozachenko and Leonenko, 1987; Sablayrolles et
al., ICLR 2019) that spreads them over the sphere, so that one threshold means the same everywhere on it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_COINCIDENT = 1e-3  # added to distances: the logarithm of that of two equal vectors must stay finite


def info_nce(vectors: Tensor, photo: Tensor, temperature: float) -> Tensor:
    """Mean over all pairs of views of one photograph of -log(e^s / (e^s + sum of e^n)), s their similarity and n those
    of the first view to each view of another photograph, over the temperature; 0 where there are no such pairs.

    `vectors` [B,D] float32 of length 1; `photo` [B] int64, equal for views of one photograph.
    """
    similarity = vectors @ vectors.T / temperature
    same = photo[:, None] == photo[None]
    others = similarity.masked_fill(same, -torch.inf).logsumexp(dim=1, keepdim=True)
    partners = same & ~torch.eye(len(photo), dtype=torch.bool, device=photo.device)
    losses = functional.softplus(others - similarity) * partners
    loss: Tensor = losses.sum() / partners.sum().clamp(min=1)
    return loss


def crowding(vectors: Tensor, photo: Tensor) -> Tensor:
    """Mean of -log(distance to the nearest view of another photograph), of vectors [B,D] of length 1; 0 where there is
    but one photograph."""
    same = photo[:, None] == photo[None]
    if bool(same.all()):
        return vectors.sum() * 0.0
    nearest = (vectors @ vectors.T).masked_fill(same, -torch.inf).argmax(dim=1)
    apart = (vectors - vectors[nearest]).norm(dim=1)
    crowded: Tensor = -(apart + _COINCIDENT).log().mean()
    return crowded
