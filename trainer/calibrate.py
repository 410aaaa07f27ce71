"""Makes a network's image logit a probability, on generated pictures of photographs that the fit never saw, and brings
its masks within a budget of false alarms, on those photographs themselves.

In: a network, its card, a held-out pool. Out: the card with temperature, bias and the scores that 1 % and 5 % of
authentic pictures exceed. Half of the pictures are forged, so the score means "at even odds"; policy decides where to
cut. Platt's method with its smoothed targets (Advances in Large Margin Classifiers, 1999). A network that sees pictures
alone was fitted on forgeries and twins in equal numbers, which says nothing of how much of a photograph it may flag:
one number is added to all of its pixels' logits so that photographs are flagged just within the budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from model_archive import preprocess
from model_archive.networks.registry import GRANULE, WEB_IML
from model_archive.weights import Card
from services.core.pixels import open_image
from trainer.data import EXAMPLES
from trainer.synthesis.photos import PhotoPool

SIZES = (256, 320, 384, 512)
FLAGGED_BUDGET = 0.0075
"""Mean share of authentic photographs that masks may flag: three quarters of the 1 % that is promised of others."""

LARGEST_SIDE = 1024  # pixels; of what is larger the upper left part, where JPEG's grid begins, stands for the whole
_LOGITS = np.linspace(-10.0, 10.0, 2001)  # thresholds that are tried


@torch.inference_mode()
def image_logits(
    network: nn.Module, name: str, pool: PhotoPool, *, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Image logits [N] and truth [N] of `count` generated pictures of several sizes."""
    network.eval()
    logits, forged = np.zeros(count), np.zeros(count, bool)
    for index in range(count):
        size = SIZES[(index // 2) % len(SIZES)]
        x, mask = EXAMPLES[name](pool, seed, index, size)
        batch = torch.from_numpy(x)[None].contiguous(memory_format=torch.channels_last)
        logits[index] = float(network(batch).image[0])
        forged[index] = bool(mask.any())
    return logits, forged


def calibrated(network: nn.Module, card: Card, pool: PhotoPool, *, count: int, seed: int) -> Card:
    """The card with its calibration."""
    logits, forged = image_logits(network, card.network, pool, count=count, seed=seed)
    slope, bias = platt(logits, forged)
    scores = 1.0 / (1.0 + np.exp(-(logits * slope + bias)))
    authentic = scores[~forged]
    levels = np.quantile(authentic, [0.99, 0.95]) if authentic.size else np.array([0.5, 0.5])
    if card.network in WEB_IML:
        card = replace(card, mask_bias=round(mask_bias(network, photograph_inputs(pool)), 2))
    return replace(
        card,
        temperature=round(1.0 / slope, 6),
        bias=round(bias, 6),
        score_at_fpr_1=round(float(levels[0]), 6),
        score_at_fpr_5=round(float(levels[1]), 6),
    )


def photograph_inputs(pool: PhotoPool) -> Iterator[np.ndarray]:
    """The photographs of a pool as inputs [4,H,W] of a single-image network. As they are: what platforms do to them
    takes traces away, and so false alarms, too."""
    for photo in pool.photos:
        picture = open_image(photo.path.read_bytes()).as_stored()
        rgb = picture.rgb[:LARGEST_SIDE, :LARGEST_SIDE]
        yield preprocess.padded(preprocess.single_input(rgb, picture.jpeg_steps), GRANULE)


@torch.inference_mode()
def mask_bias(network: nn.Module, inputs: Iterable[np.ndarray], budget: float = FLAGGED_BUDGET) -> float:
    """What is to be added to pixels' logits for a mean share `budget` of authentic inputs [C,H,W] to be above 0;
    within -10..10."""
    network.eval()
    above = np.zeros(len(_LOGITS))
    count = 0
    for x in inputs:
        batch = torch.from_numpy(x)[None].contiguous(memory_format=torch.channels_last)
        logits = np.sort(network(batch).mask.float().numpy().ravel())
        above += 1.0 - np.searchsorted(logits, _LOGITS) / logits.size
        count += 1
    within = above <= budget * count
    return float(-_LOGITS[within.argmax()]) if within.any() else float(-_LOGITS[-1])


def platt(logits: np.ndarray, positive: np.ndarray, *, rounds: int = 50) -> tuple[float, float]:
    """Slope (> 0) and bias of the logistic curve through (logit, truth), classes weighted alike; by Newton's method."""
    yes, no = max(1, int(positive.sum())), max(1, int((~positive).sum()))
    target = np.where(positive, (yes + 1.0) / (yes + 2.0), 1.0 / (no + 2.0))
    weight = np.where(positive, 0.5 / yes, 0.5 / no)
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    solution = np.array([1.0, 0.0])
    for _ in range(rounds):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ solution, -30, 30)))
        gradient = design.T @ (weight * (chance - target))
        curvature = (design * (weight * chance * (1 - chance))[:, None]).T @ design + np.eye(2) * 1e-6
        solution = solution - np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
        solution[0] = max(solution[0], 1e-2)
    return float(solution[0]), float(solution[1])
