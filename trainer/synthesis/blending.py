"""What edits are put together from: laying a layer over a ground, blending it in, filling holes.

Pictures are [S,S,3] uint8 sRGB, coverages [S,S] float32 0..1, masks [S,S] bool.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class Edit:
    """A forged picture [S,S,3] uint8 and what of it is forged, [S,S] bool. `kind` names the edit."""

    kind: str
    picture: np.ndarray
    mask: np.ndarray


def placed(
    rng: np.random.Generator, picture: np.ndarray, cut: np.ndarray, *, scale: tuple[float, float], turn: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cut-out moved to a random place: its picture [S,S,3] uint8, its coverage [S,S] float32 0..1, and the map
    [2,3] float64 that took it there. Where `turn` (degrees) is not 0 it is mirrored at times."""
    size = cut.shape[0]
    ys, xs = np.nonzero(cut)
    centre = (float(xs.mean()), float(ys.mean())) if xs.size else (size / 2, size / 2)
    matrix = cv2.getRotationMatrix2D(centre, float(rng.uniform(-turn, turn)), float(rng.uniform(*scale)))
    target = rng.uniform(0.12 * size, 0.88 * size, 2)
    matrix[:, 2] = matrix[:, 2] + np.round(target - centre)  # whole pixels: a rigid copy stays free of resampling
    if rng.random() < 0.3 and turn > 0:
        matrix = np.array([[-1.0, 0.0, size - 1.0], [0.0, 1.0, 0.0]]) @ np.vstack([matrix, [0, 0, 1]])
    moved = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine(cut.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR)
    return moved, alpha, matrix


def pasted(rng: np.random.Generator, ground: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`top` over `ground` with an edge that is hard, feathered, or very soft."""
    softness = float(rng.choice([0.0, rng.uniform(0.5, 1.5), rng.uniform(1.5, 4.0)], p=[0.3, 0.5, 0.2]))
    if softness > 0:
        alpha = cv2.GaussianBlur(alpha, (0, 0), softness)
    return mixed(ground, top, alpha)


def mixed(ground: np.ndarray, top: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """`top` over `ground` by coverage."""
    weight = alpha[..., None]
    levels = ground * (1.0 - weight) + top * weight
    return np.asarray(np.clip(np.round(levels), 0, 255), np.uint8)


def harmonised(rng: np.random.Generator, top: np.ndarray, alpha: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """`top` with its mean and spread (in Lab, under `alpha`) drawn towards those of the ground."""
    inside = alpha > 0.5
    if inside.sum() < 16:
        return top
    lab = cv2.cvtColor(top, cv2.COLOR_RGB2LAB).astype(np.float32)
    goal = cv2.cvtColor(ground, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float32)
    mean, spread = lab[inside].mean(0), lab[inside].std(0) + 1.0
    amount = rng.uniform(0.3, 0.9)
    matched = (lab - mean) / spread * (goal.std(0) + 1.0) + goal.mean(0)
    blend = lab * (1 - amount) + matched * amount
    return np.asarray(cv2.cvtColor(np.clip(blend, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB))


def inpainted(picture: np.ndarray, hole: np.ndarray, method: int = cv2.INPAINT_TELEA) -> np.ndarray:
    """The picture with a hole filled from its surroundings (OpenCV)."""
    return np.asarray(cv2.inpaint(picture, hole.astype(np.uint8) * 255, 4, method))


def poisson(top: np.ndarray, alpha: np.ndarray, ground: np.ndarray) -> np.ndarray | None:
    """`top` blended into the ground by its gradients (OpenCV's seamless cloning); None where it touches the border."""
    inside = (alpha > 0.5).astype(np.uint8) * 255
    x, y, width, height = cv2.boundingRect(inside)
    size = ground.shape[0]
    if width < 8 or height < 8 or x < 2 or y < 2 or x + width > size - 2 or y + height > size - 2:
        return None
    centre = (x + width // 2, y + height // 2)
    return np.asarray(cv2.seamlessClone(top, ground, inside, centre, cv2.NORMAL_CLONE))
