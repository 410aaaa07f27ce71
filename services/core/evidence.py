"""What stands behind an answer about a picture alone: notes on missing or weak evidence, and copied parts. Pure.

In: a picture as it was opened, and how it was analysed. Out: slugs, e.g. `no_jpeg_history`, the same for the same
picture. A note says what the answer did not rest on. It is no finding, neither for nor against the picture; a
`CopiedPart` is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.core.pixels import STANDARD_STEPS, Picture

Box = tuple[int, int, int, int]
"""x, y, width and height in pixels of the full upright picture."""


@dataclass(frozen=True, slots=True)
class CopiedPart:
    """Two places of one picture that are the same to the finest detail. `told` says that `copy` is known to be the copy
    and `source` what it was copied from; otherwise it may be either way round."""

    source: Box
    copy: Box
    told: bool

    def words(self) -> str:
        """The finding as a sentence."""
        x, y, width, height = self.copy
        size, other = f"{width} x {height} pixels", f"({self.source[0]}, {self.source[1]})"
        if self.told:
            return f"A part of it, {size} at ({x}, {y}), is a copy of its place at {other}."
        return f"Two places in it, {size} at ({x}, {y}) and at {other}, are the same: one is a copy of the other."


NO_JPEG_HISTORY = "no_jpeg_history"
LOW_QUALITY_JPEG = "low_quality_jpeg"
COLOURS_CONVERTED = "colours_converted"
SMALL_PICTURE = "small_picture"
REDUCED = "reduced"
OUT_OF_TIME = "out_of_time"

NOTES = {
    NO_JPEG_HISTORY: "The file is no JPEG, so there were no quantisation tables to hold its pixels against.",
    LOW_QUALITY_JPEG: "The JPEG is coarsely quantised, which wipes out most traces of what came before.",
    COLOURS_CONVERTED: "Its colours had to be converted, which blurs the traces of JPEG and of the camera.",
    SMALL_PICTURE: "The picture is small: there are few blocks to compare with each other.",
    REDUCED: "It was analysed below its own resolution, where fine traces are lost.",
    OUT_OF_TIME: "Full resolution did not fit into the time allowed.",
}
"""Every note with what it means, in the order in which they are given."""

SMALL_SIDE = 128
"""Pixels of the shorter side below which a picture is small: fewer than 16 blocks of a JPEG side by side."""

COARSE = 1.0
"""Quantisation, as a multiple of ITU-T T.81's own table, above which a JPEG is coarse: below quality 50 in libjpeg's
words. The single-image network is fitted on qualities from 50 up."""


def notes_on(picture: Picture, *, reduced: bool = False, out_of_time: bool = False) -> tuple[str, ...]:
    """The notes on a picture that was opened at its full size, in NOTES' order.

    `reduced` says that it was analysed below that size, `out_of_time` that this was for want of time.
    """
    steps = picture.as_stored().jpeg_steps
    found = {
        NO_JPEG_HISTORY: picture.format != "JPEG",
        LOW_QUALITY_JPEG: steps is not None and coarseness(steps) > COARSE,
        COLOURS_CONVERTED: bool({"icc_converted", "cmyk_converted"} & set(picture.notes)),
        SMALL_PICTURE: min(picture.width, picture.height) < SMALL_SIDE,
        REDUCED: reduced,
        OUT_OF_TIME: out_of_time,
    }
    return tuple(note for note in NOTES if found[note])


def coarseness(steps: tuple[int, ...]) -> float:
    """How coarse 64 luma quantisation steps, row by row, are: the median of their ratios to ITU-T T.81's table K.1.

    1 is libjpeg's quality 50, 0.5 its 75, 2 its 25 (there: ratio = 50 / quality below 50, 2 - quality / 50 above).
    """
    return float(np.median(np.asarray(steps, np.float64) / np.asarray(STANDARD_STEPS, np.float64)))
