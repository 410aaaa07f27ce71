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
from services.core import pixels
from services.core.errors import Broken
from services.core.evidence import notes_on

NETWORK = "web_iml"

PIXELS = "PENTIMENTO_UNCONSTRAINED_PIXELS"
"""Environment: pixels up to which a picture is analysed at its own resolution. All that are accepted, by default."""

DEADLINE = "PENTIMENTO_UNCONSTRAINED_DEADLINE_S"
"""Environment: seconds for one request (TorchServe: for one batch). Unset: SERVED_DEADLINE_S where a server waits for
the answer, no limit in the offline commands."""

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
    if picture.width * picture.height <= min(limits.look_pixels, limits.pixels):
        x = preprocess.padded(preprocess.single_input(picture.rgb, picture.jpeg_steps), GRANULE)[None]
        return Prepared(x, size, size, NETWORK, orientation=turned, notes=notes_on(picture))
    prepared = Prepared(None, size, size, NETWORK, orientation=turned, notes=notes_on(picture), picture=picture)
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
    scale = min(1.0, math.sqrt(prepared.look_pixels / (picture.width * picture.height)))
    working = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    small = np.asarray(cv2.resize(picture.rgb, working, interpolation=cv2.INTER_AREA), np.uint8)
    x = preprocess.padded(preprocess.single_input(small), GRANULE)[None]
    return Prepared(
        x,
        working,
        prepared.full,
        NETWORK,
        orientation=prepared.orientation,
        notes=notes_on(picture, reduced=True, out_of_time=out_of_time),
        seconds=prepared.seconds,
    )
