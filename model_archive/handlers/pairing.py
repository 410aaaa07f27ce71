"""An upload and its possible original, up to the network that will mark the upload: aligned, told apart, prepared.

In: a `PairRequest`. Out: `Prepared`: which kind of pair it is, and the input of the network for that kind. The way:
open both -> lay the original onto the upload (`services.core.placement`) -> is the main area the same? (`pair_kind`)
-> yes: an edit in place, for `difference`; no: seek the original's objects in the upload, for `correlation`; neither:
the two are unrelated, which needs no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model_archive import preprocess
from model_archive.handlers.results import Kind, PairRequest
from model_archive.handlers.tiling import Tiles
from model_archive.networks.pair_kind import KINDS
from model_archive.networks.prior import PriorFeatures, prior_matches
from model_archive.networks.registry import GRANULE
from services.core import alignment, pixels
from services.core.copy_move import Copy
from services.core.placement import Placement, place, place_objects

ORIGINAL_SIDE = 2048  # originals keep more detail, because an upload may be a crop of one
BLOCK = 8  # pixels of a side: a JPEG's own, where hardly a block with detail comes through unchanged
DETAIL = 2.0  # grey levels of spread from which on a block has detail
LEAST_DETAILED = 0.02  # share of the blocks that must have detail for equality to mean anything
EXACT_SHARE = 0.6  # of the blocks with detail that must be equal
ROUNDING = 2  # grey levels that an editor may change a place by without anybody meaning it
PLAIN = 16  # grey levels that some pixel of an edited place changed by
EXACT_GAP = 5  # pixels; changed pixels are seldom all of an edit's pixels
KIND_LOOK = 256  # pixels of the longer side at which the kind of a pair is looked at
LEAST_CONFIDENCE = 0.05  # below which a map that was given is sought anew
LEAST_OVERLAP = 0.05  # share of the upload that an original must cover to say anything about it
SAME_AT = 0.05
"""Probability of `spg` from which on a pair is taken for one. Of 58 generated `sdg` pairs of photographs held out from
the fit none reaches 0.005; of 110 `spg` ones, one that is half edited falls below, and one with a wrong map."""

SAME_SPREAD = 0.4
"""Share of the upload spanned by agreeing corners from which on the main area is the same. Of those 58 `sdg` pairs none
reaches 0.31, of the `spg` ones 98 % do."""

AGREES = 0.06  # of 0..1: mean difference, colours matched, below which a small look shows the same
WHOLE_SHARE = 0.75  # of what the original covers that must show the same where all of it was reused
SURE_INLIERS = 20  # matches of an object that need no classifier's word

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Prepared:
    """An item on its way: `x` [K,C,H,W] float32, inputs of `network` whose masks are laid over each other, or None
    where the answer is known without it. `working` is (width, height) of the unpadded input, `full` of the upload.

    `maps` [3,3] are those that the inputs were made with, in pixels of the full pictures; `original` is (width, height)
    of the full original; `exact` [H,W] bool marks every changed pixel, where that is known for certain.

    Of an upload alone: `orientation` by which its mask is turned upright (`full` is then not), `notes` on its evidence,
    `copies` of parts of it (their masks have a reduced size), and where it is looked at in `tiles`, the `picture` that
    they are cut from and the `look_pixels` to which it would be reduced for want of time.
    """

    x: Floats | None
    working: preprocess.Size
    full: preprocess.Size
    network: str = ""
    kind: Kind | None = None
    inliers: int | None = None
    overlap: float | None = None
    confidence: float | None = None
    maps: tuple[npt.NDArray[np.float64], ...] = ()
    exact: npt.NDArray[np.bool_] | None = None
    original: preprocess.Size = (0, 0)
    seconds: float = 0.0
    orientation: int = 1
    notes: tuple[str, ...] = ()
    copies: tuple[Copy, ...] = ()
    picture: pixels.Picture | None = None
    tiles: Tiles | None = None
    look_pixels: int = 0


@dataclass(frozen=True, slots=True)
class Laid:
    """The original laid onto the upload: `rgb` [H,W,3] uint8, `valid` [H,W] bool where it has pixels, by a map."""

    rgb: Pixels
    valid: npt.NDArray[np.bool_]
    placement: Placement


def prepared_pair(
    request: PairRequest, classifier: nn.Module, max_side: int, prior: PriorFeatures | None = None
) -> Prepared:
    """The input of the network that fits the pair. `prior` helps to find objects that local features miss.

    Raises Rejected where a picture cannot be opened.
    """
    upload = pixels.open_image(request.upload, max_side=max_side)
    full, working = (upload.width, upload.height), _size(upload.rgb)
    if request.upload == request.original:
        return Prepared(None, working, full, kind="spg", overlap=1.0, confidence=1.0)
    original = pixels.open_image(request.original, max_side=ORIGINAL_SIDE)
    sizes = {"original": ((original.width, original.height), _size(original.rgb)), "upload": (full, working)}
    hint = None if request.homography is None else preprocess.rescaled(request.homography, **sizes)
    whole = place(original.rgb, upload.rgb, hint)
    if hint is not None and (whole is None or whole.confidence < LEAST_CONFIDENCE):
        hint, whole = None, place(original.rgb, upload.rgb)
    laid = None if whole is None else laid_onto(original.rgb, upload.rgb, whole)
    if laid is not None and laid.valid.mean() >= LEAST_OVERLAP and _same_picture(upload.rgb, laid, classifier):
        prepared = _in_place(upload, laid)
    else:
        prepared = _objects(upload, original.rgb, laid, classifier, prior)
    if hint is not None:
        prepared.inliers = None
    prepared.original = (original.width, original.height)
    back = {name: (now, then) for name, (then, now) in sizes.items()}
    prepared.maps = tuple(preprocess.rescaled(matrix, **back) for matrix in prepared.maps)
    return prepared


def looked_at(upload: Pixels, laid: Laid) -> Floats:
    """What tells the kind of a pair, [10,h,w] float32: `object_input`, reduced to KIND_LOOK pixels."""
    scale = min(1.0, KIND_LOOK / max(upload.shape[:2]))
    size = max(1, round(upload.shape[1] * scale)), max(1, round(upload.shape[0] * scale))
    small, original = (
        np.asarray(cv2.resize(side, size, interpolation=cv2.INTER_AREA), np.uint8) for side in (upload, laid.rgb)
    )
    valid = cv2.resize(laid.valid.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 250
    return preprocess.object_input(small, original, valid, laid.placement.points * np.float32(scale))


def kind_scores(look: Floats, classifier: nn.Module) -> npt.NDArray[np.float64]:
    """The classifier's probabilities of `KINDS` [3] for a pair that was laid onto each other."""
    with torch.inference_mode():
        logits = classifier(torch.from_numpy(preprocess.kind_input(look))[None])
        return np.asarray(torch.softmax(logits[0], dim=0).double().numpy())


def _same_picture(upload: Pixels, laid: Laid, classifier: nn.Module) -> bool:
    """Whether the main area of the two is the same: agreement spans it, the classifier says so, or all of the original
    is in the upload.

    A page that shows the original in a corner of itself shares little of its area; but of an object that was cut out
    the surroundings would differ.
    """
    if laid.placement.spread >= SAME_SPREAD:
        return True
    look = looked_at(upload, laid)
    if kind_scores(look, classifier)[KINDS.index("spg")] > SAME_AT:
        return True
    covered = cv2.resize(laid.valid.astype(np.uint8), look.shape[:0:-1], interpolation=cv2.INTER_NEAREST) > 0
    agreeing = look[6:9].mean(axis=0)[covered] < AGREES
    return laid.placement.inliers >= SURE_INLIERS and bool(agreeing.mean() >= WHOLE_SHARE)


def _in_place(upload: pixels.Picture, laid: Laid) -> Prepared:
    """An edit in place, or none."""
    full, working = (upload.width, upload.height), _size(upload.rgb)
    nothing_differs = np.array_equal(laid.rgb[laid.valid], upload.rgb[laid.valid])
    x = exact = None
    if not nothing_differs:
        x = preprocess.padded(preprocess.pair_input(upload.rgb, laid.rgb, laid.valid), GRANULE)[None]
        exact = exact_difference(upload.rgb, laid.rgb, laid.valid)
    return Prepared(
        x,
        working,
        full,
        "difference",
        kind="spg",
        inliers=laid.placement.inliers,
        overlap=float(laid.valid.mean()),
        confidence=laid.placement.confidence,
        maps=(laid.placement.homography,),
        exact=exact,
    )


def exact_difference(upload: Pixels, original: Pixels, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Where two pictures [H,W,3] plainly differ, [H,W] bool with small gaps closed; None unless most blocks with detail
    are equal to the last bit, as after an edit that was saved without loss.

    Blocks without detail do not count: white paper and black sky stay equal through any recompression. A JPEG saved
    again at its own quality keeps most blocks, too, but what it changes it changes little: such specks are left out.
    """
    change = np.abs(upload.astype(np.int16) - original.astype(np.int16)).max(axis=2)
    grey = cv2.cvtColor(upload, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blocks = _blocks(grey).std(axis=2) > DETAIL
    blocks &= _blocks(valid).all(axis=2)
    if blocks.mean() < LEAST_DETAILED or (_blocks(change)[blocks].max(axis=1) == 0).mean() < EXACT_SHARE:
        return None
    kernel = np.ones((EXACT_GAP, EXACT_GAP), np.uint8)
    plain = ((change > ROUNDING) & valid).astype(np.uint8)
    count, found = cv2.connectedComponents(cv2.morphologyEx(plain, cv2.MORPH_CLOSE, kernel))
    parts = np.asarray(found, np.intp)
    peaks = np.zeros(count, np.int16)
    np.maximum.at(peaks, parts.ravel(), change.ravel())
    peaks[0] = 0
    return np.asarray((peaks >= PLAIN)[parts])


def _blocks(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[H,W] -> [H/8,W/8,64]; what is left over right and below is left out."""
    height, width = (side // BLOCK for side in plane.shape)
    whole = plane[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK)
    return whole.swapaxes(1, 2).reshape(height, width, BLOCK * BLOCK)


def _objects(
    upload: pixels.Picture, original: Pixels, whole: Laid | None, classifier: nn.Module, prior: PriorFeatures | None
) -> Prepared:
    """Objects of the original in the upload, or nothing in common."""
    full, working = (upload.width, upload.height), _size(upload.rgb)
    extra = None if prior is None else prior_matches(prior, original, upload.rgb)
    found = [laid_onto(original, upload.rgb, placement) for placement in place_objects(original, upload.rgb, extra)]
    if not found and whole is not None:
        found = [whole]
    believed = [laid for laid in found if _believed(upload.rgb, laid, classifier)]
    if not believed:
        inliers = max((laid.placement.inliers for laid in found), default=0)
        return Prepared(None, working, full, kind="unrelated", inliers=inliers, overlap=0.0, confidence=0.0)
    inputs = [
        preprocess.padded(preprocess.object_input(upload.rgb, laid.rgb, laid.valid, laid.placement.points), GRANULE)
        for laid in believed
    ]
    best = believed[0]
    return Prepared(
        np.stack(inputs),
        working,
        full,
        "correlation",
        kind="sdg",
        inliers=best.placement.inliers,
        overlap=float(best.valid.mean()),
        confidence=best.placement.confidence,
        maps=tuple(laid.placement.homography for laid in believed),
    )


def _believed(upload: Pixels, laid: Laid, classifier: nn.Module) -> bool:
    """Whether the matches of an object mean something: there are many of them, or the classifier sees it too."""
    if laid.placement.inliers >= SURE_INLIERS:
        return True
    return bool(kind_scores(looked_at(upload, laid), classifier)[KINDS.index("unrelated")] < 0.5)


def laid_onto(original: Pixels, upload: Pixels, placement: Placement) -> Laid:
    """The original [h,w,3] in the frame of the upload [H,W,3]."""
    frame = _size(upload)
    rgb = alignment.warp(original, placement.homography, frame)
    return Laid(rgb, alignment.coverage(original, placement.homography, frame), placement)


def carried_back(mask: Pixels, maps: Sequence[npt.NDArray[np.float64]], original: preprocess.Size) -> Pixels:
    """A mask [H,W] uint8 of the upload in the original's frame, [h,w] uint8: what of it was taken."""
    laid = [cv2.warpPerspective(mask, np.linalg.inv(matrix), original, flags=cv2.INTER_LINEAR) for matrix in maps]
    return np.asarray(np.max(laid, axis=0), np.uint8)


def _size(picture: Pixels) -> preprocess.Size:
    """(width, height) of pixels [H,W,...]."""
    return int(picture.shape[1]), int(picture.shape[0])
