"""Forgeries that change a place without bringing anything in from elsewhere: warping, touching up, relighting, filling.

In: a random generator, a host scene (the donor is ignored, except as a source of texture). Out: `Edit`, as in `edits`.
"""

from __future__ import annotations

import cv2
import numpy as np

from trainer.synthesis import shapes
from trainer.synthesis.blending import Edit, inpainted, mixed, pasted
from trainer.synthesis.photos import Scene

LEAST_SHIFT = 0.75  # pixels that warping must move a place by before it counts as edited


def warp(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A place pushed, swollen or pinched, as by a liquify brush."""
    del donor
    size = host.picture.shape[0]
    radius = size * float(np.exp(rng.uniform(np.log(0.06), np.log(0.3))))
    centre = rng.uniform(0.15 * size, 0.85 * size, 2)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=2).astype(np.float32)
    away = grid - centre.astype(np.float32)
    near = np.clip(1.0 - (away**2).sum(2) / radius**2, 0, 1)[..., None] ** 2
    if rng.random() < 0.5:
        angle, far = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.1, 0.35)
        shift = near * np.array([np.cos(angle), np.sin(angle)], np.float32) * far
    else:
        shift = near * away * rng.choice([-1, 1]) * rng.uniform(0.2, 0.5)
    source = (grid - shift).astype(np.float32)
    x, y = source[..., 0], source[..., 1]
    changed = cv2.remap(host.picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return Edit("warp", np.asarray(changed, np.uint8), np.asarray(np.linalg.norm(shift, axis=2) > LEAST_SHIFT))


def touch_up(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A place of the size of a face made smooth, its spots taken away, its colour warmed."""
    del donor
    size = host.picture.shape[0]
    cut = shapes.shape(rng, size, share=float(np.exp(rng.uniform(np.log(0.004), np.log(0.06)))))
    picture = host.picture
    if rng.random() < 0.8:
        width = int(rng.integers(7, 15))
        picture = cv2.bilateralFilter(picture, width, float(rng.uniform(25, 70)), float(rng.uniform(3, 8)))
    if rng.random() < 0.6:
        spots = np.zeros((size, size), np.uint8)
        places = np.argwhere(cut)
        for y, x in places[rng.integers(0, len(places), int(rng.integers(2, 7)))] if len(places) else ():
            cv2.circle(spots, (int(x), int(y)), int(rng.integers(2, max(3, size // 50))), (1,), -1)
        picture = inpainted(picture, spots > 0)
    tint = rng.normal(0, 1, 3) * rng.uniform(2, 12)
    changed = np.clip(picture * np.exp(rng.normal(0.03, 0.06)) + tint, 0, 255).astype(np.uint8)
    return Edit("touch_up", pasted(rng, host.picture, changed, cut.astype(np.float32)), cut)


def relight(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A place made lighter, darker, duller or of stronger contrast, with a soft edge."""
    del donor
    cut = shapes.region(rng, host, prefer_things=0.5)
    picture = host.picture.astype(np.float32)
    middle = picture[cut].mean() if cut.any() else 128.0
    changed = (picture - middle) * np.exp(rng.normal(0, 0.35)) + middle
    changed = changed * np.exp(rng.choice([-1, 1]) * rng.uniform(0.15, 0.6))
    if rng.random() < 0.4:
        grey = changed.mean(2, keepdims=True)
        changed = grey + (changed - grey) * rng.uniform(0.0, 0.6)
    size = cut.shape[0]
    alpha = cv2.GaussianBlur(cut.astype(np.float32), (0, 0), size * float(rng.uniform(0.004, 0.03)))
    return Edit("relight", mixed(host.picture, np.clip(changed, 0, 255), alpha), alpha > 0.4)


def texture_fill(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A place filled with texture that never was in front of a camera, in the colours around it.

    Texture of the spectrum of a real patch but random phase (Galerne, Gousseau and Morel, IEEE TIP 20(1), 2011), or a
    quilt of small patches of the host; both have the too regular look of generated fill.
    """
    cut = shapes.region(rng, host)
    size = cut.shape[0]
    if rng.random() < 0.5:
        changed = _random_phase(rng, host if rng.random() < 0.7 else donor, cut, host.picture)
    else:
        changed = _quilt(rng, host.picture, side=max(8, int(size * rng.uniform(0.05, 0.15))))
    return Edit("texture_fill", pasted(rng, host.picture, changed, cut.astype(np.float32)), cut)


def _random_phase(rng: np.random.Generator, source: Scene, cut: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A base of smooth colours with random-phase texture of the source on it, [S,S,3] uint8."""
    size = cut.shape[0]
    small = cv2.resize(ground, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    hole = cv2.resize(cut.astype(np.uint8), (size // 4, size // 4), interpolation=cv2.INTER_NEAREST) > 0
    base = cv2.resize(inpainted(small, hole), (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    picture = source.picture.astype(np.float32)
    detail = picture - cv2.GaussianBlur(picture, (0, 0), size / 32)
    phase = np.exp(1j * np.angle(np.fft.rfft2(rng.standard_normal((size, size)))))[..., None]
    texture = np.fft.irfft2(np.fft.rfft2(detail, axes=(0, 1)) * phase, s=(size, size), axes=(0, 1))
    return np.asarray(np.clip(base + texture * rng.uniform(0.4, 1.1), 0, 255), np.uint8)


def _quilt(rng: np.random.Generator, picture: np.ndarray, side: int) -> np.ndarray:
    """The host's own small patches, shuffled within a neighbourhood and blended over their seams, [S,S,3] uint8."""
    size = picture.shape[0]
    total = np.zeros((size, size, 3), np.float32)
    weight = np.full((size, size, 1), 1e-3, np.float32)
    window = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])[..., None].astype(np.float32)
    reach = float(rng.uniform(1.5, 4.0)) * side
    for top in range(0, size - side + 1, max(1, side // 2)):
        for left in range(0, size - side + 1, max(1, side // 2)):
            y, x = np.clip(np.array([top, left]) + rng.uniform(-reach, reach, 2), 0, size - side).astype(int)
            total[top : top + side, left : left + side] += window * picture[y : y + side, x : x + side]
            weight[top : top + side, left : left + side] += window
    return np.asarray(np.clip(total / weight, 0, 255), np.uint8)
