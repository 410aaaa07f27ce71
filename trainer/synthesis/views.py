"""Two views of one photograph, as a lookup compares them: a region of an original, and one of an upload made from it.

In: a pool of photographs, a seed and a number. Out: `ViewPair`, the same for the same numbers on any run. Most uploads
are the whole photograph cropped, turned, recoloured, covered in part; the others are another picture that an object of
the photograph was pasted into. Regions are those of `services.core.intake.regions`: an original's are the stored ones,
and the two that are compared are chosen as a search would find them, those that share most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from services.core.intake import regions
from trainer.synthesis import disturbances, edits, shapes
from trainer.synthesis.blending import harmonised, pasted
from trainer.synthesis.photos import PhotoPool

PART_SHARE = 0.38  # of the pairs in which the upload is another picture with an object of the original
SIDES = (190, 280)  # pixels of the shorter side that pictures are worked at: what a region needs, and no more
OBJECT_SHARES = (0.05, 0.4)  # of the upload that a pasted object covers
OBJECT_SCALES = (0.35, 2.5)
THING_SHARES = (0.03, 0.55)  # of the original that an object covers
HARMONISED = 0.1  # share of the objects whose colours are drawn towards their new ground's
PLAIN_HOSTS = 0.15  # share of the objects that are alone on a plain ground
COVERED_SHARE = 0.35  # of the other uploads that a part of another picture covers
COVERED = (0.01, 0.6)  # share of an upload that another picture covers
EXPONENT = 4.0  # how strongly the regions that share more are preferred


@dataclass(frozen=True, slots=True)
class ViewPair:
    """A region of an original and one of an upload, [h,w,3] uint8 each; `shared` 0..1 is how much of the two is the
    same; `photo` is the original's number in the pool; `kind` is `whole` or `part`."""

    original: np.ndarray
    upload: np.ndarray
    shared: float
    photo: int
    kind: str


@dataclass(frozen=True, slots=True)
class Made:
    """An upload [h,w,3] uint8 made from a photograph, and how much [U,S] float64 0..1 each of its regions shares with
    each of the photograph's."""

    picture: np.ndarray
    shared: np.ndarray


@lru_cache(maxsize=4)  # both views of a pair are asked for one after the other
def view_pair(pool: PhotoPool, seed: int, number: int) -> ViewPair:
    """Pair `number` of the stream `seed`. Every photograph comes once before any comes again."""
    rng = np.random.default_rng((seed, 6, number))
    photo = _turn(seed, number, len(pool.photos))
    picture, labels = pool.whole(photo, int(rng.integers(*SIDES)))
    part = rng.random() < PART_SHARE
    other = None
    if part or rng.random() < COVERED_SHARE:  # reading a photograph takes long
        other, _ = pool.whole(_another(rng, photo, len(pool.photos)), int(rng.integers(*SIDES)))
    made = with_part(rng, picture, labels, other) if part and other is not None else edited(rng, picture, other)
    mine, stored = _chosen(rng, made.shared)
    original = regions.crop(picture, regions.REGIONS[stored])
    upload = regions.crop(made.picture, regions.REGIONS[mine])
    if rng.random() < 0.5:
        original = disturbances.jpeg(np.ascontiguousarray(original), int(rng.integers(60, 96)))
    upload = _processed(rng).apply(np.ascontiguousarray(upload))
    return ViewPair(original, upload, float(made.shared[mine, stored]), photo, "part" if part else "whole")


def edited(rng: np.random.Generator, picture: np.ndarray, other: np.ndarray | None) -> Made:
    """The whole photograph, cropped and turned at random, with a part of `other`, and at times a text or a border."""
    to_photo, (width, height) = _framing(rng, picture.shape[:2])
    how, beyond = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_CONSTANT
    ground = tuple(int(v) for v in rng.integers(0, 256, 3)) if rng.random() < 0.5 else (0, 0, 0)
    upload = cv2.warpAffine(picture, to_photo, (width, height), flags=how, borderMode=beyond, borderValue=ground)
    inside = cv2.warpAffine(np.ones(picture.shape[:2], np.uint8), to_photo, (width, height), flags=how)
    upload, covered = _covered(rng, upload, other)
    seen = (inside > 0) & ~covered
    return Made(upload, overlaps(to_photo, picture.shape[:2], seen))


def with_part(rng: np.random.Generator, picture: np.ndarray, labels: np.ndarray | None, host: np.ndarray) -> Made:
    """`host`, or a plain ground, with an object of the photograph pasted into it."""
    if rng.random() < PLAIN_HOSTS:
        host = np.full_like(host, rng.integers(0, 256, 3, dtype=np.uint8))
    cut = None if labels is None or rng.random() < 0.15 else shapes.thing(rng, labels, THING_SHARES)
    cut = _shape(rng, picture.shape[:2], float(rng.uniform(0.06, 0.3))) if cut is None else cut
    matrix = _placing(rng, cut, host.shape[:2])
    size = (host.shape[1], host.shape[0])
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    alpha = cv2.warpAffine(cut.astype(np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    if rng.random() < HARMONISED:
        moved = harmonised(rng, moved, alpha, host)
    upload = pasted(rng, host, moved, alpha)
    shared = np.outer(_prominence(alpha > 0.5), _prominence(cut)[: regions.STORED])
    return Made(upload, np.sqrt(shared))


def overlaps(to_photo: np.ndarray, shape: tuple[int, ...], seen: np.ndarray) -> np.ndarray:
    """How much each region of an upload shares with each stored one of its original, [U,S] float64 0..1.

    Intersection over union of the two in the original of `shape`, times the share of the upload's region where the
    original is `seen` [h,w] bool. `to_photo` [2,3] maps the upload's pixels to the original's.
    """
    stored = [_corners(box, shape) for box in regions.REGIONS[: regions.STORED]]
    shares = np.zeros((len(regions.REGIONS), len(stored)))
    for mine, box in enumerate(regions.REGIONS):
        quad = (_corners(box, seen.shape) @ to_photo[:, :2].T + to_photo[:, 2]).astype(np.float32)
        visible = float(regions.crop(seen[..., None].view(np.uint8), box).mean())
        own = abs(cv2.contourArea(quad))
        for place, theirs in enumerate(stored):
            area = abs(cv2.contourArea(theirs))
            common = min(cv2.intersectConvexConvex(quad, theirs)[0], own, area)  # which fails where sides coincide
            shares[mine, place] = visible * common / (own + area - common)
    return shares


def _turn(seed: int, number: int, count: int) -> int:
    """The photograph whose turn it is: those of a round are in an order of its own."""
    turn, place = divmod(number, count)
    return int(np.random.default_rng((seed, 7, turn)).permutation(count)[place])


def _another(rng: np.random.Generator, photo: int, count: int) -> int:
    return (photo + int(rng.integers(1, count))) % count


def _chosen(rng: np.random.Generator, shared: np.ndarray) -> tuple[int, int]:
    """A region of the upload and a stored one of the original, the likelier the more they share."""
    weight = np.cumsum((shared / max(float(shared.max()), 1e-9)).ravel() ** EXPONENT)
    place = int(np.searchsorted(weight, rng.random() * weight[-1], side="right"))
    mine, stored = np.unravel_index(min(place, shared.size - 1), shared.shape)
    return int(mine), int(stored)


def _framing(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, int]]:
    """How an upload shows its photograph: the map [2,3] of its pixels to the photograph's, and its (width, height)."""
    height, width = shape[:2]
    share = float(rng.uniform(0.4, 1.0)) if rng.random() < 0.6 else 1.0
    narrow = float(np.exp(rng.uniform(-0.25, 0.25))) if share < 1.0 else 1.0
    wide, high = (min(1.0, np.sqrt(share) * each) for each in (narrow, 1.0 / narrow))
    centre = [rng.uniform(part / 2, 1 - part / 2) * side for part, side in ((wide, width), (high, height))]
    window = np.array([wide * width, high * height])
    scale = float(rng.uniform(0.6, 1.1)) * np.exp(rng.uniform(-0.15, 0.15, 2) * (rng.random() < 0.25))
    angle = np.radians(rng.uniform(-20, 20)) if rng.random() < 0.25 else 0.0
    quarter = int(rng.integers(1, 4)) if rng.random() < 0.05 else 0
    mirror = -1.0 if rng.random() < 0.15 else 1.0
    out = np.maximum(16, np.round(window * scale))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([mirror * window[0] / out[0], window[1] / out[1]])
    for _ in range(quarter):
        matrix, out = matrix @ np.array([[0.0, -1.0], [1.0, 0.0]]), out[::-1]
    return np.column_stack([matrix, np.array(centre) - matrix @ (out / 2)]), (int(out[0]), int(out[1]))


def _covered(rng: np.random.Generator, upload: np.ndarray, other: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The upload with what people lay over pictures, and where, [h,w] bool."""
    height, width = upload.shape[:2]
    covered = np.zeros((height, width), bool)
    if other is not None:
        mask = _shape(rng, (height, width), float(np.exp(rng.uniform(*np.log(COVERED)))))
        top = cv2.resize(other, (width, height), interpolation=cv2.INTER_AREA)
        upload, covered = pasted(rng, upload, top, mask.astype(np.float32)), covered | mask
    if rng.random() < 0.2:
        upload = upload.copy()
        for _ in range(int(rng.integers(1, 4))):
            words = "".join(rng.choice(edits.LETTERS, int(rng.integers(4, 16))))
            place = (int(rng.uniform(0, 0.7 * width)), int(rng.uniform(0.1, 1.0) * height))
            colour = tuple(int(v) for v in rng.choice([0, 255, int(rng.integers(256))], 3))
            font = edits.FONTS[int(rng.integers(len(edits.FONTS)))]
            size = float(rng.uniform(0.4, 1.6))
            cv2.putText(upload, words, place, font, size, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
    if rng.random() < 0.12:
        down, across = (int(side * rng.uniform(0, 0.15)) for side in (height, width))
        frame = np.ones((height, width), bool)
        frame[down : height - down, across : width - across] = False
        upload = np.where(frame[..., None], rng.choice([0, 255, int(rng.integers(256))]), upload).astype(np.uint8)
        covered |= frame
    return upload, covered


def _placing(rng: np.random.Generator, cut: np.ndarray, host: tuple[int, ...]) -> np.ndarray:
    """The map [2,3] that takes an object `cut` [H,W] bool to a place in a host, of a size that it is seen at."""
    x, y, width, height = cv2.boundingRect(cut.astype(np.uint8))
    share = float(rng.uniform(*OBJECT_SHARES))
    scale = float(np.clip(np.sqrt(share * host[0] * host[1] / max(1, int(cut.sum()))), *OBJECT_SCALES))
    scale = min(scale, host[1] / width, host[0] / height)
    angle = np.radians(rng.uniform(-20, 20)) if rng.random() < 0.3 else 0.0
    mirror = -1.0 if rng.random() < 0.15 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([mirror * scale, scale])
    room = [max(0.0, side - scale * own) / 2 for side, own in ((host[1], width), (host[0], height))]
    target = np.array([host[1] / 2, host[0] / 2]) + rng.uniform(-1, 1, 2) * room
    return np.column_stack([matrix, target - matrix @ np.array([x + width / 2, y + height / 2])])


def _shape(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> np.ndarray:
    """A drawn shape that covers about a share of a picture, [H,W] bool."""
    drawn = shapes.shape(rng, 128, share=share).astype(np.uint8)
    return np.asarray(cv2.resize(drawn, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0)


def _prominence(mask: np.ndarray) -> np.ndarray:
    """How well each region shows an object [H,W] bool, [R] float64 0..1: how much of the region it fills, times how
    much of it is there."""
    total = max(1, int(mask.sum()))
    parts = [regions.crop(mask[..., None].view(np.uint8), box) for box in regions.REGIONS]
    return np.array([float(part.mean()) * float(part.sum()) / total for part in parts])


def _corners(box: regions.Box, shape: tuple[int, ...]) -> np.ndarray:
    """The corners of a box in a picture of `shape`, [4,2] float32 x and y in pixels."""
    places = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom)]
    return np.array([(x * shape[1], y * shape[0]) for x, y in places], np.float32)


def _processed(rng: np.random.Generator) -> disturbances.Disturbance:
    """What an upload went through: what one side of a pair does, at times much more of it."""
    usual = disturbances.side(rng)
    if rng.random() < 0.3:
        gain = np.exp(rng.normal(0, 0.2, 3))
        usual = replace(usual, gain=(float(gain[0]), float(gain[1]), float(gain[2])))
    if rng.random() < 0.2:
        usual = replace(usual, contrast=float(np.exp(rng.normal(0, 0.35))), gamma=float(np.exp(rng.normal(0, 0.3))))
    if rng.random() < 0.1:
        usual = replace(usual, saturation=0.0)
    if rng.random() < 0.12:
        usual = replace(usual, sigma=float(rng.uniform(1.0, 3.0)))
    if rng.random() < 0.4:
        usual = replace(usual, jpeg=(int(rng.integers(30, 96)),))
    return usual
