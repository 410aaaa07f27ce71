"""What is done to photographs before they are looked up: one kind of change a row of the page.

In: a photograph, a stranger (another photograph, which is not in the index), a random generator. Out: the bytes of an
upload. Every kind is deterministic for a photograph, its stranger and a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from trainer.synthesis import shapes
from trainer.synthesis.blending import mixed
from trainer.synthesis.disturbances import Disturbance
from trainer.synthesis.edits import FONTS, LETTERS

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Rng = np.random.Generator

QUALITY = 85  # of the JPEG that an upload is saved as, unless its kind says another
MASK_SIDE = 256  # pixels; drawn shapes are made on a square of this size and stretched
THINGS = (0.02, 0.6)  # share of its photograph that an outlined thing may cover
LARGEST = 6.0  # a thing is not enlarged more than this, in length
FITTING = 0.15  # share by which a thing may miss the wanted size, where the frame cuts it off
BORDER = 0.08  # width of the frame that is put around a picture, as a share of its longer side


@dataclass(frozen=True, slots=True)
class Source:
    """A photograph that uploads are made from: `rgb` [H,W,3] uint8, `labels` [H,W] int32 outlines where known."""

    rgb: Pixels
    labels: Labels | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A kind of change. `make` takes the photograph, a stranger and a generator; None where it cannot be done."""

    group: str
    name: str
    make: Callable[[Source, Pixels, Rng], Pixels | None]
    quality: int = QUALITY

    @property
    def outlines(self) -> bool:
        """Whether it needs a photograph whose things are outlined."""
        return self.group == DONOR

    def upload(self, source: Source, stranger: Pixels, rng: Rng) -> bytes | None:
        """The upload, a JPEG; None where this photograph does not allow the change."""
        made = self.make(source, stranger, rng)
        return None if made is None else saved(made, self.quality)


DONOR = "donor object"


def saved(rgb: Pixels, quality: int = QUALITY) -> bytes:
    """A picture as the bytes of a JPEG."""
    bgr = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def cropped(source: Source, stranger: Pixels, rng: Rng, *, side: float) -> Pixels:
    """A part of `side` of the width and of the height, somewhere."""
    del stranger
    height, width = source.rgb.shape[:2]
    rows, columns = round(height * side), round(width * side)
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    return source.rgb[top : top + rows, left : left + columns]


def resized(source: Source, stranger: Pixels, rng: Rng, *, factor: float) -> Pixels:
    """The picture at `factor` of its size in length."""
    del stranger, rng
    height, width = source.rgb.shape[:2]
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = max(16, round(width * factor)), max(16, round(height * factor))
    return _pixels(cv2.resize(source.rgb, size, interpolation=how))


def unchanged(source: Source, stranger: Pixels, rng: Rng) -> Pixels:
    """The picture itself: the change is how it is saved."""
    del stranger, rng
    return source.rgb


def turned(source: Source, stranger: Pixels, rng: Rng, *, degrees: float) -> Pixels:
    """Quarter turns exactly; other angles about the centre, cut to the largest frame of the same shape that is full."""
    del stranger, rng
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(source.rgb, int(degrees // 90)))
    height, width = source.rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    whole = cv2.warpAffine(source.rgb, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    left = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    rows, columns = int(height * left), int(width * left)
    top, start = (height - rows) // 2, (width - columns) // 2
    return _pixels(whole[top : top + rows, start : start + columns])


def mirrored(source: Source, stranger: Pixels, rng: Rng) -> Pixels:
    """Flipped left to right."""
    del stranger, rng
    return source.rgb[:, ::-1]


def disturbed(source: Source, stranger: Pixels, rng: Rng, *, by: Disturbance) -> Pixels:
    """The picture after a change of all its colours."""
    del stranger, rng
    return _pixels(by.apply(source.rgb))


def bordered(source: Source, stranger: Pixels, rng: Rng) -> Pixels:
    """A frame of one colour around the picture."""
    del stranger
    wide = round(BORDER * max(source.rgb.shape[:2]))
    colour = [int(value) for value in rng.integers(0, 256, 3)]
    return _pixels(cv2.copyMakeBorder(source.rgb, wide, wide, wide, wide, cv2.BORDER_CONSTANT, value=colour))


def captioned(source: Source, stranger: Pixels, rng: Rng) -> Pixels:
    """Two lines of text across the top and the bottom, white with a black shadow."""
    del stranger
    height, width = source.rgb.shape[:2]
    picture = source.rgb.copy()
    font = FONTS[int(rng.integers(len(FONTS)))]
    for bottom in (round(height * 0.15), round(height * 0.95)):
        text = "".join(rng.choice(LETTERS, 14))
        (long, _), _ = cv2.getTextSize(text, font, 1.0, 1)
        scale = 0.85 * width / max(1, long)
        thick = max(1, round(2 * scale))
        for colour, at in (((0, 0, 0), thick), ((255, 255, 255), 0)):
            place = round(width * 0.05) + at, bottom + at
            cv2.putText(picture, text, place, font, scale, colour, thick, cv2.LINE_AA)
    return picture


def edited(source: Source, stranger: Pixels, rng: Rng, *, share: float) -> Pixels:
    """A drawn shape of so much of the picture, filled with a stranger's pixels."""
    height, width = source.rgb.shape[:2]
    mask = cv2.resize(_shape(rng, share), (width, height), interpolation=cv2.INTER_LINEAR)
    filling = cv2.resize(stranger, (width, height), interpolation=cv2.INTER_AREA)
    return _pixels(mixed(source.rgb, filling, mask))


def donated(source: Source, stranger: Pixels, rng: Rng, *, share: float) -> Pixels | None:
    """An outlined thing of the photograph pasted into a stranger, of whose frame it covers `share`.

    None where no thing is outlined, or none that can be brought to that size without being cut off.
    """
    if source.labels is None:
        return None
    for _ in range(4):
        cut = shapes.thing(rng, source.labels, THINGS)
        if cut is None:
            return None
        pasted = _pasted(source.rgb, cut, stranger, rng, share)
        if pasted is not None:
            return pasted
    return None


def _pasted(rgb: Pixels, cut: npt.NDArray[np.bool_], ground: Pixels, rng: Rng, share: float) -> Pixels | None:
    """What is cut out of `rgb`, at the wanted size, laid somewhere on the ground; None where it does not fit."""
    left, top, wide, high = cv2.boundingRect(cut.astype(np.uint8))
    factor = float(np.sqrt(share * ground.shape[0] * ground.shape[1] / cut.sum()))
    columns, rows = round(wide * factor), round(high * factor)
    if factor > LARGEST or min(columns, rows) < 8:
        return None
    window = slice(top, top + high), slice(left, left + wide)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    thing = cv2.resize(rgb[window], (columns, rows), interpolation=how)
    alpha = cv2.resize(cut[window].astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    height, width = ground.shape[:2]
    y, x = (int(rng.integers(min(0, room), max(0, room) + 1)) for room in (height - rows, width - columns))
    inside = slice(max(0, -y), min(rows, height - y)), slice(max(0, -x), min(columns, width - x))
    if alpha[inside].sum() < (1.0 - FITTING) * share * height * width:
        return None
    there = slice(max(0, y), max(0, y) + alpha[inside].shape[0]), slice(max(0, x), max(0, x) + alpha[inside].shape[1])
    picture = ground.copy()
    picture[there] = mixed(ground[there], thing[inside], alpha[inside])
    return picture


def _shape(rng: Rng, share: float) -> npt.NDArray[np.float32]:
    """[S,S] float32 0 or 1: a drawn shape of `share` of the square. Large ones are cut off by the border, and so are
    asked for larger until they are right; a shape that cannot be right is drawn anew."""
    while True:
        seed = int(rng.integers(2**31))
        low, high = share / 2, min(8.0, share * 8)
        for _ in range(14):
            asked = (low + high) / 2
            mask = shapes.shape(np.random.default_rng(seed), MASK_SIDE, share=asked)
            if mask.mean() < share:
                low = asked
            else:
                high = asked
        if abs(mask.mean() - share) < 0.1 * share:
            return np.asarray(mask, np.float32)


def _pixels(array: npt.NDArray[np.generic]) -> Pixels:
    return np.asarray(array, np.uint8)


def _colours() -> tuple[Change, ...]:
    warm = Disturbance(gain=(1.25, 1.05, 0.85))
    return tuple(
        Change("colour", name, partial(disturbed, by=by))
        for name, by in (
            ("gain (red 1.25, green 1.05, blue 0.85)", warm),
            ("gamma 0.6", Disturbance(gamma=0.6)),
            ("gamma 1.7", Disturbance(gamma=1.7)),
            ("saturation 1.8", Disturbance(saturation=1.8)),
            ("grey", Disturbance(saturation=0.0)),
        )
    )


CHANGES: tuple[Change, ...] = (
    *(Change("crop", f"crop to {s:.0%} of each side", partial(cropped, side=s)) for s in (0.9, 0.75, 0.6)),
    *(Change("resize", f"resize to {f:g} of each side", partial(resized, factor=f)) for f in (0.3, 0.5, 2.0)),
    *(Change("JPEG", f"JPEG quality {q}", unchanged, q) for q in (90, 60, 30)),
    *(Change("rotation", f"turned by {d} degrees", partial(turned, degrees=d)) for d in (5, 15, 90, 180)),
    Change("mirrored", "mirrored", mirrored),
    *_colours(),
    Change("border", f"border of {BORDER:.0%} of the longer side", bordered),
    Change("text", "two lines of text", captioned),
    *(Change("edited area", f"edited area {s:.0%}", partial(edited, share=s)) for s in (0.01, 0.05, 0.2, 0.4, 0.6)),
    *(Change(DONOR, f"donor object, {s:.0%} of the frame", partial(donated, share=s)) for s in (0.05, 0.1, 0.2, 0.4)),
)
"""In the order of the page. In the last four an object is taken from the wanted photograph; in all others the wanted
one is the picture that was changed."""
