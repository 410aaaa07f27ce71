"""The forgeries themselves: each takes a scene and gives back the edited picture with the mask of what was edited.

In: a random generator, a host scene, and a donor scene (another photograph with a history of its own). Out: `Edit`.
Object Jitter follows the idea in arXiv 2508.20987 (an object is put back slightly changed, so that the only evidence is
the artefact); its parameters are ours.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from trainer.synthesis import local_edits, shapes
from trainer.synthesis.blending import Edit, harmonised, inpainted, mixed, pasted, placed, poisson
from trainer.synthesis.photos import Scene

SMALLEST_SHARE = 0.0008
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
LETTERS = np.array(list("ABCDEFGHIKLMNOPRSTUVWabcdefghiklmnoprstuvw0123456789 .!"))


def splice(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A part of the donor pasted into the host: scaled, turned, feathered, its colours drawn towards the host's."""
    cut = shapes.region(rng, donor)
    moved, alpha, _ = placed(rng, donor.picture, cut, scale=(0.5, 1.4), turn=25)
    if rng.random() < 0.6:
        moved = harmonised(rng, moved, alpha, host.picture)
    if rng.random() < 0.1:
        blended = poisson(moved, alpha, host.picture)
        if blended is not None:
            return Edit("splice", blended, alpha > 0.5)
    return Edit("splice", pasted(rng, host.picture, moved, alpha), alpha > 0.5)


def large_splice(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A large part of another photograph, sharp or hardly feathered: a person, an animal, or all of the background."""
    cut = shapes.shape(rng, donor.picture.shape[0], share=float(rng.uniform(0.12, 0.5)))
    if donor.labels is not None and rng.random() < 0.7:
        found = shapes.thing(rng, donor.labels, shares=(0.1, 0.6))
        cut = cut if found is None else found
    moved, alpha, _ = placed(rng, donor.picture, cut, scale=(0.8, 1.4), turn=10)
    if rng.random() < 0.5:
        moved = harmonised(rng, moved, alpha, host.picture)
    return Edit("large_splice", pasted(rng, host.picture, moved, alpha), alpha > 0.5)


def copy_move(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A part of the host pasted into the host somewhere else. The mask marks the copy, not the source."""
    del donor
    cut = shapes.region(rng, host)
    rigid = rng.random() < 0.5
    moved, alpha, _ = placed(rng, host.picture, cut, scale=(1, 1) if rigid else (0.75, 1.3), turn=0 if rigid else 20)
    return Edit("copy_move", pasted(rng, host.picture, moved, alpha), alpha > 0.5)


def removal(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A part of the host filled from its surroundings: by inpainting, or by a shifted patch blended in."""
    del donor
    hole = shapes.region(rng, host)
    if hole.mean() < 0.06 and rng.random() < 0.5:
        method = cv2.INPAINT_TELEA if rng.random() < 0.6 else cv2.INPAINT_NS
        filled = inpainted(host.picture, hole, method)
        return Edit("removal", filled, hole)
    size = hole.shape[0]
    angle, far = rng.uniform(0, 2 * np.pi), np.sqrt(hole.sum()) * rng.uniform(1.0, 1.6)
    shift = np.array([[1, 0, far * np.cos(angle)], [0, 1, far * np.sin(angle)]])
    moved = cv2.warpAffine(host.picture, shift, (size, size), borderMode=cv2.BORDER_REFLECT)
    alpha = hole.astype(np.float32)
    blended = poisson(moved, alpha, host.picture) if rng.random() < 0.35 else None
    return Edit("removal", pasted(rng, host.picture, moved, alpha) if blended is None else blended, hole)


def recolour(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """Hue, saturation or brightness of a part changed, clearly enough to be seen."""
    del donor
    cut = shapes.region(rng, host, prefer_things=0.9)
    hsv = cv2.cvtColor(host.picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + float(rng.uniform(15, 165)) * (rng.random() < 0.7)) % 180
    hsv[..., 1] *= float(np.exp(rng.normal(0, 0.4)))
    hsv[..., 2] *= float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.12, 0.5)))
    changed = cv2.cvtColor(np.clip(hsv, 0, [179, 255, 255]).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return Edit("recolour", pasted(rng, host.picture, changed, cut.astype(np.float32)), cut)


def retouch(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A part blurred, sharpened, made noisy or pixelated."""
    del donor
    cut = shapes.region(rng, host)
    picture = host.picture
    match rng.choice(["blur", "median", "sharpen", "noise", "pixelate"]):
        case "blur":
            changed = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1.5, 5)))
        case "median":
            changed = cv2.medianBlur(picture, int(rng.choice([5, 7, 9])))
        case "sharpen":
            soft = cv2.GaussianBlur(picture, (0, 0), 1.5).astype(np.float32)
            changed = np.clip(picture + rng.uniform(1.2, 3.0) * (picture - soft), 0, 255).astype(np.uint8)
        case "noise":
            grain = rng.standard_normal(picture.shape, dtype=np.float32) * rng.uniform(8, 25)
            changed = np.clip(picture + grain, 0, 255).astype(np.uint8)
        case _:
            size, block = picture.shape[0], int(rng.integers(4, 12))
            small = cv2.resize(picture, (size // block, size // block), interpolation=cv2.INTER_AREA)
            changed = cv2.resize(small, (size, size), interpolation=cv2.INTER_NEAREST)
    return Edit("retouch", pasted(rng, picture, changed, cut.astype(np.float32)), cut)


def overlay(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """Text, or a flat shape like a logo or a bar, drawn over the host; sometimes see-through."""
    del donor
    size = host.picture.shape[0]
    colour = rng.integers(0, 256, 3)
    if rng.random() < 0.3:
        alpha = shapes.shape(rng, size, share=float(rng.uniform(0.005, 0.08))).astype(np.float32)
    else:
        canvas = np.zeros((size, size), np.uint8)
        text = "".join(rng.choice(LETTERS, int(rng.integers(3, 12))))
        where = (int(rng.integers(0, size // 2)), int(rng.integers(size // 6, size)))
        scale = float(rng.uniform(0.6, 2.0)) * size / 256
        font = FONTS[int(rng.integers(len(FONTS)))]
        cv2.putText(canvas, text, where, font, scale, (255,), int(rng.integers(1, 4)), cv2.LINE_AA)
        alpha = canvas.astype(np.float32) / 255.0
    drawn = np.broadcast_to(colour.astype(np.uint8), host.picture.shape)
    opacity = 1.0 if rng.random() < 0.7 else float(rng.uniform(0.5, 0.9))
    return Edit("overlay", mixed(host.picture, drawn, alpha * opacity), alpha > 0.4)


def object_jitter(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """A thing of the host put back slightly larger, smaller, brighter or softer; what it uncovers is filled."""
    del donor
    cut = shapes.region(rng, host, prefer_things=1.0)
    size = cut.shape[0]
    factor = float(rng.uniform(0.82, 1.18))
    ys, xs = np.nonzero(cut)
    centre = (float(xs.mean()), float(ys.mean())) if xs.size else (size / 2, size / 2)
    matrix = cv2.getRotationMatrix2D(centre, float(rng.normal(0, 3)), factor)
    moved = cv2.warpAffine(host.picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine(cut.astype(np.float32), matrix, (size, size), flags=cv2.INTER_LINEAR)
    changed = np.clip(moved * np.exp(rng.normal(0, 0.06)) + rng.normal(0, 3), 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        changed = cv2.GaussianBlur(changed, (0, 0), float(rng.uniform(0.4, 1.2)))
    uncovered = cut & (alpha < 0.5)
    ground = host.picture
    if uncovered.any():
        ground = inpainted(ground, cv2.dilate(uncovered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    return Edit("object_jitter", pasted(rng, ground, changed, alpha), (alpha > 0.5) | uncovered)


EDITS: tuple[tuple[Callable[[np.random.Generator, Scene, Scene], Edit], float], ...] = (
    (splice, 0.30),
    (copy_move, 0.13),
    (removal, 0.12),
    (object_jitter, 0.10),
    (recolour, 0.06),
    (retouch, 0.07),
    (overlay, 0.07),
    (local_edits.warp, 0.04),
    (local_edits.touch_up, 0.04),
    (local_edits.relight, 0.03),
    (local_edits.texture_fill, 0.04),
)
"""Every edit with its share among the generated forgeries."""


def forge(rng: np.random.Generator, host: Scene, donor: Scene) -> Edit:
    """One random edit that left a mask of usable size (0.08 % to 60 % of the picture)."""
    shares = np.array([share for _, share in EDITS])
    for _ in range(8):
        edit = EDITS[int(rng.choice(len(EDITS), p=shares))][0](rng, host, donor)
        if SMALLEST_SHARE < edit.mask.mean() < 0.6:
            return edit
    cut = shapes.shape(rng, host.picture.shape[0], share=0.1)
    return Edit("splice", mixed(host.picture, donor.picture, cut.astype(np.float32)), cut)
