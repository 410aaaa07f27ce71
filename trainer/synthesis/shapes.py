"""Where a forgery happens: random regions of a scene.

In: a random generator and a scene. Out: [S,S] bool masks. A region is a labelled thing of the photograph where
outlines are known, otherwise a smooth blob, a polygon, an ellipse or a rectangle.
"""

from __future__ import annotations

import cv2
import numpy as np

from trainer.synthesis.photos import Scene

SMALLEST_SHARE = 0.002
LARGEST_SHARE = 0.4


def region(rng: np.random.Generator, scene: Scene, *, prefer_things: float = 0.7) -> np.ndarray:
    """A region to forge, [S,S] bool, between 0.2 % and 40 % of the scene."""
    size = scene.picture.shape[0]
    if scene.labels is not None and rng.random() < prefer_things:
        found = thing(rng, scene.labels)
        if found is not None:
            return found
    return shape(rng, size, share=float(np.exp(rng.uniform(np.log(0.006), np.log(0.3)))))


def thing(
    rng: np.random.Generator,
    labels: np.ndarray,
    shares: tuple[float, float] = (SMALLEST_SHARE * 2, LARGEST_SHARE),
) -> np.ndarray | None:
    """A connected labelled region that covers a share within `shares`, [S,S] bool, or None where there is none."""
    values, counts = np.unique(labels, return_counts=True)
    covered = counts / labels.size
    fitting = values[(covered > shares[0]) & (covered < shares[1])]
    for value in rng.permutation(fitting)[:3]:
        count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8))
        if count < 2:
            continue
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        box_width, box_height, area = stats[largest, 2], stats[largest, 3], stats[largest, cv2.CC_STAT_AREA]
        whole_frame = box_width > 0.9 * labels.shape[1] and box_height > 0.9 * labels.shape[0]
        if area > shares[0] / 2 * labels.size and not whole_frame:
            found: np.ndarray = parts == largest
            return found
    return None


def shape(rng: np.random.Generator, size: int, *, share: float) -> np.ndarray:
    """A drawn shape that covers about `share` of a square of `size` pixels, somewhere inside it, [S,S] bool."""
    radius = float(np.sqrt(share / np.pi) * size)
    stretch = float(np.exp(rng.normal(0.0, 0.3)))
    margin = min(radius, size * 0.4)
    centre = rng.uniform(margin, size - margin, 2)
    kind = rng.choice(["blob", "polygon", "ellipse", "rectangle"], p=[0.55, 0.2, 0.1, 0.15])
    if kind == "rectangle":
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * radius * 0.886
        turn = 0.0 if rng.random() < 0.7 else float(rng.uniform(0, np.pi))
    else:
        corners = _outline(rng, str(kind)) * radius
        turn = float(rng.uniform(0, np.pi))
    corners = corners * [stretch, 1.0 / stretch]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = np.round(corners @ rotation.T + centre).astype(np.int32)
    canvas = np.zeros((size, size), np.uint8)
    cv2.fillPoly(canvas, [points], (1,))
    return canvas.astype(bool)


def _outline(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Points of a closed outline of mean radius 1, [N,2]."""
    if kind == "polygon":
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 9))))
        radii = rng.uniform(0.7, 1.3, angles.size)
    else:
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        radii = np.ones_like(angles)
        waves = 0 if kind == "ellipse" else 6
        for k in range(2, 2 + waves):
            radii += rng.normal(0, 0.5 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
        radii = np.clip(radii, 0.25, 1.9)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
