"""An upload alone, up to the network that will mark it: opened as it is stored, whole or in tiles, with notes.

In: a `SingleRequest` and `Limits`. Out: `Prepared`, a network's input where the picture is seen whole, otherwise the
tiles to cut it into. Pictures keep their own resolution, since resizing destroys the traces that JPEG and the camera
leave. One that may not is reduced to what one look takes: between the two nothing of worth lies, because any reduction
loses those traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from model_archive import preprocess
from model_archive.handlers import tiling
from model_archive.handlers.pairing import Prepared
from model_archive.handlers.results import SingleRequest
from model_archive.networks.registry import GRANULE
from services.core import copy_move, pixels
from services.core.copy_move import Copy
from services.core.errors import Broken
from services.core.evidence import Box, CopiedPart, notes_on

NETWORK = "web_iml"

PIXELS = "PENTIMENTO_UNCONSTRAINED_PIXELS"
"""Environment: pixels up to which a picture is analysed at its own resolution. All that are accepted, by default."""

DEADLINE = "PENTIMENTO_UNCONSTRAINED_DEADLINE_S"
"""Environment: seconds for one request (TorchServe: for one batch). Unset: SERVED_DEADLINE_S where a server waits for
the answer, no limit in the offline commands."""

COPIED = 250
"""Probability, 0..255, of a pixel of a part that was copied."""

COPY_SCORE = 0.97
"""Score of a picture with such a part, at even odds. None of 400 authentic photographs has one, so the share of those
that do is below 0.75 % (95 %); more than a third of generated copies have one (`trainer.copies`)."""

SERVED_DEADLINE_S = 40.0
"""Below the client's own deadline (60 s), in which a request also queues and travels."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one picture may cost.

    `pixels` above which it is reduced, which the same picture always is or is not; `deadline_s` after which it is as
    well, as the last resort, since a clock gives no answer twice. `look_pixels` are seen whole, at full resolution or
    reduced; what is larger is cut into tiles of `tile_pixels` at most. Memory follows the larger of the two.
    """

    pixels: int = pixels.MAX_PIXELS
    deadline_s: float = math.inf
    look_pixels: int = tiling.WHOLE_PIXELS
    tile_pixels: int = tiling.TILE_PIXELS

    def __post_init__(self) -> None:
        """Raises ValueError for limits that no picture could keep."""
        if self.pixels <= 0 or not self.deadline_s > 0:
            raise ValueError(f"limits must be above 0: {self.pixels} pixels, {self.deadline_s} s")


def limits_from(environment: Mapping[str, str], *, deadline_s: float = math.inf) -> Limits:
    """The limits that the environment sets; `deadline_s` where it sets none. Raises Broken for what is no number."""
    try:
        most = int(environment.get(PIXELS) or pixels.MAX_PIXELS)
        return Limits(most, float(environment.get(DEADLINE) or deadline_s))
    except ValueError as error:
        raise Broken(f"{PIXELS} must be a whole number and {DEADLINE} a number, both above 0: {error}") from error


def prepared_single(request: SingleRequest, limits: Limits) -> Prepared:
    """What the network sees of an upload: `x` [1,4,H,W], or `tiles` of its `picture`. Raises Rejected."""
    picture = pixels.open_image(request.upload)
    turned, picture = picture.orientation, picture.as_stored()
    size = picture.width, picture.height
    prepared = Prepared(None, size, size, NETWORK, orientation=turned, notes=notes_on(picture))
    prepared.copies = tuple(copy_move.copies(_small(picture.rgb, copy_move.WORKING_SIDE / max(size))))
    if picture.width * picture.height <= min(limits.look_pixels, limits.pixels):
        prepared.x = preprocess.padded(preprocess.single_input(picture.rgb, picture.jpeg_steps), GRANULE)[None]
        return prepared
    prepared.picture = picture
    prepared.look_pixels = min(limits.look_pixels, limits.pixels)
    if picture.width * picture.height > limits.pixels:
        return reduced(prepared)
    prepared.tiles = tiling.planned(*size, most=limits.tile_pixels)
    return prepared


def tile_of(picture: pixels.Picture) -> Callable[[slice, slice], preprocess.Floats]:
    """Cuts the network's input [4,h,w] out of a picture, by rows and columns that start at multiples of GRANULE."""
    steps = picture.jpeg_steps

    def cut(rows: slice, columns: slice) -> preprocess.Floats:
        return preprocess.padded(preprocess.single_input(picture.rgb[rows, columns], steps), GRANULE)

    return cut


def reduced(prepared: Prepared, *, out_of_time: bool = False) -> Prepared:
    """The same upload at its `look_pixels` at most, to be seen whole; without JPEG's steps, whose grid is gone."""
    if prepared.picture is None:
        raise ValueError("only a picture that was kept can be reduced")
    picture = prepared.picture
    small = _small(picture.rgb, math.sqrt(prepared.look_pixels / (picture.width * picture.height)))
    return Prepared(
        preprocess.padded(preprocess.single_input(small), GRANULE)[None],
        (small.shape[1], small.shape[0]),
        prepared.full,
        NETWORK,
        orientation=prepared.orientation,
        notes=notes_on(picture, reduced=True, out_of_time=out_of_time),
        copies=prepared.copies,
        seconds=prepared.seconds,
    )


def with_copies(prepared: Prepared, mask: pixels.Pixels, score: float) -> tuple[pixels.Pixels, float]:
    """A mask [H,W] uint8 and a score 0..1 of a network, with the copies that were found without it."""
    if not prepared.copies:
        return mask, score
    forged = np.any([copy.forged for copy in prepared.copies], axis=0).astype(np.uint8) * COPIED
    laid = cv2.resize(forged, prepared.full, interpolation=cv2.INTER_LINEAR)
    return np.maximum(mask, np.asarray(laid, np.uint8)), max(score, COPY_SCORE)


def copied_parts(prepared: Prepared) -> tuple[CopiedPart, ...]:
    """The copies of a picture as boxes in its full upright size."""
    return tuple(_part(copy, prepared) for copy in prepared.copies)


def _part(copy: Copy, prepared: Prepared) -> CopiedPart:
    first, second = (_box(place, prepared) for place in (copy.first, copy.second))
    told = max(copy.second_chance, 1.0 - copy.second_chance) >= copy_move.TOLD_APART
    return CopiedPart(first, second, told) if copy.second_chance >= 0.5 else CopiedPart(second, first, told)


def _box(place: copy_move.Mask, prepared: Prepared) -> Box:
    upright = pixels.upright(place.astype(np.uint8), prepared.orientation)
    scale = max(prepared.full) / max(upright.shape)
    x, y, width, height = (round(side * scale) for side in cv2.boundingRect(np.ascontiguousarray(upright)))
    return x, y, width, height


def _small(rgb: pixels.Pixels, scale: float) -> pixels.Pixels:
    """A picture [H,W,3] reduced by a factor, never enlarged."""
    if scale >= 1.0:
        return rgb
    size = max(1, int(rgb.shape[1] * scale)), max(1, int(rgb.shape[0] * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
