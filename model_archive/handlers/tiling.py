"""A picture of any size seen at full resolution: cut into overlapping tiles, looked at, laid together without a seam.

In: a picture and who looks at a tile. Out: its mask, and one logit for the picture. Memory does not grow with the
number of tiles: the mask is finished row of tiles by row of tiles. Tiles begin at multiples of the networks' granule,
and so of JPEG's 8x8 blocks, whose grid stays where it was; only right and below, at the picture's own border, is
anything padded, as where the picture is seen whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_archive.networks.registry import GRANULE

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Look = Callable[[Floats], tuple[Floats, Floats]]
"""Inputs [B,C,h,w] float32 -> probabilities [B,h,w] float32 and calibrated image logits [B] float32."""

WHOLE_PIXELS = 1_572_864
"""Pixels up to which a picture is seen whole (1536 x 1024): what social networks make of photographs fits."""

TILE_PIXELS = 1_179_648
"""Pixels of a tile at most (1152 x 1024): 12 and 24 megapixels are cut into 12 and 24 tiles. What a network holds
against the rest of the picture it holds against the rest of the tile, so larger is better; memory is the limit."""

OVERLAP = 64
"""Pixels that neighbouring tiles share at least; over them one fades into the other. On two photographs of 1440 x 1056,
128 came 4 and 8 % closer to the whole picture's mask, with larger tiles; 64 is chosen for the time that it saves."""

LONGEST = 2.0
"""How many times as long as wide a tile may be, if the picture is not itself narrower."""

BATCH_PIXELS = TILE_PIXELS
"""Pixels of the tiles of one forward pass on a CPU, where more at once cost memory and gain nothing."""

BATCH_PIXELS_GPU = 8 * TILE_PIXELS
"""The same on a GPU: eight tiles of full size."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """A picture of `width` x `height` cut into tiles of `size` (width, height) at every pair of `columns` and `rows`,
    pixels of their left and upper edges. The last ones may reach over the picture's border by less than GRANULE."""

    width: int
    height: int
    size: tuple[int, int]
    columns: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return len(self.columns) * len(self.rows)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen: `mask` [H,W] uint8, 0..255 = probability, and the picture's calibrated `logit`."""

    mask: Pixels
    logit: float


def planned(width: int, height: int, *, most: int = TILE_PIXELS, overlap: int = OVERLAP) -> Tiles:
    """The fewest tiles of at most `most` pixels that share `overlap` a side at least; of equally few, the smallest.

    Raises ValueError where `overlap` is no multiple of GRANULE, or `most` is less than a tile of four overlaps a side.
    """
    if overlap <= 0 or overlap % GRANULE or most < (4 * overlap) ** 2:
        raise ValueError(f"tiles of {most} pixels with {overlap} in common: too small, or no multiple of {GRANULE}")
    found = []
    for across in range(1, max(1, width // (2 * overlap)) + 1):
        tile_width = _size(width, across, overlap)
        room = most // tile_width // GRANULE * GRANULE
        if room >= min(2 * overlap, _rounded_up(height)):
            down = 1 if height <= room else -(-(height - overlap) // (room - overlap))
            tile_height = _size(height, down, overlap)
            slender = tile_width > LONGEST * tile_height and down > 1
            if not slender and not (tile_height > LONGEST * tile_width and across > 1):
                found.append((across * down, tile_width * tile_height, across, down))
    _, _, across, down = min(found)
    size = _size(width, across, overlap), _size(height, down, overlap)
    return Tiles(width, height, size, _origins(width, size[0], across), _origins(height, size[1], down))


def looked(
    tiles: Tiles,
    cut: Callable[[slice, slice], Floats],
    look: Look,
    *,
    batch_pixels: int = BATCH_PIXELS,
    overlap: int = OVERLAP,
    go_on: Callable[[int], bool] = lambda done: True,
) -> Seen | None:
    """The picture's mask and logit; None where `go_on`, asked after each batch with the number of tiles done, says no.

    `cut` gives the input [C,h,w] of a tile's rows and columns, padded to the tiles' size.
    """
    window_x = windows(tiles.columns, tiles.size[0], tiles.width, overlap)
    window_y = windows(tiles.rows, tiles.size[1], tiles.height, overlap)
    at_once = max(1, batch_pixels // (tiles.size[0] * tiles.size[1]))
    mask = np.empty((tiles.height, tiles.width), np.uint8)
    band = np.zeros((tiles.size[1], tiles.width), np.float32)
    logits: list[float] = []
    for row, top in enumerate(tiles.rows):
        bottom = min(top + tiles.size[1], tiles.height)
        for first in range(0, len(tiles.columns), at_once):
            columns = range(first, min(first + at_once, len(tiles.columns)))
            spans = [slice(tiles.columns[i], min(tiles.columns[i] + tiles.size[0], tiles.width)) for i in columns]
            chances, found = look(np.stack([cut(slice(top, bottom), span) for span in spans]))
            for column, span, chance in zip(columns, spans, chances, strict=True):
                seen = chance[: bottom - top, : span.stop - span.start]
                band[: bottom - top, span] += seen * window_y[row][:, None] * window_x[column]
            logits += [float(logit) for logit in found]
            if len(logits) < tiles.count and not go_on(len(logits)):
                return None
        done = (tiles.rows[row + 1] if row + 1 < len(tiles.rows) else tiles.height) - top
        mask[top : top + done] = np.round(np.clip(band[:done], 0.0, 1.0) * np.float32(255.0))
        band[:-done] = band[done:].copy()
        band[len(band) - done :] = 0.0
    shares = np.outer([window.sum() for window in window_y], [window.sum() for window in window_x]).ravel()
    return Seen(mask, picture_logit(logits, [float(share) for share in shares]))


def windows(origins: Sequence[int], size: int, length: int, overlap: int) -> list[Floats]:
    """The weights of each tile along one side of the picture, [at most `size`] float32; at each place they sum to 1.

    A squared sine over `overlap` pixels at each edge that is not the picture's own: with a squared cosine from the
    other side it sums to 1, and a tile counts least where it saw least around a place.
    """
    ramp = np.sin((np.arange(overlap) + 0.5) * (np.pi / 2 / overlap)) ** 2
    found, total = [], np.zeros(length)
    for origin in origins:
        window = np.ones(size)
        if origin > 0:
            window[:overlap] *= ramp
        if origin + size < length:
            window[-overlap:] *= ramp[::-1]
        window = window[: length - origin]
        total[origin : origin + size] += window
        found.append(window)
    return [
        (window / total[origin : origin + size]).astype(np.float32)
        for origin, window in zip(origins, found, strict=True)
    ]


def picture_logit(logits: Sequence[float], shares: Sequence[float]) -> float:
    """One calibrated logit of a picture from those of its tiles, weighted by the `shares` of the picture that they
    stand for: log(sum share_i * exp(logit_i)) with shares that sum to 1.

    A calibrated logit at even odds is the log of a likelihood ratio: how much more likely what was seen is where the
    tile was edited. Suppose that an edited picture is edited in one place, anywhere in it alike. Then tile i holds it
    with probability share_i, the others look as in an authentic picture, and by the law of total probability the
    picture's likelihood ratio is the mean of the tiles' ratios, weighted by their shares. One tile in thirty that is
    sure therefore counts log(30) less than a whole picture that is: many looks find something odd more easily, and
    that is what is taken back here. A single tile keeps its logit. The maximum alone would raise false alarms with
    the number of tiles; a mean of logits would drown a small edit in its surroundings.
    """
    weight = np.asarray(shares, np.float64)
    return float(np.logaddexp.reduce(np.asarray(logits, np.float64) + np.log(weight / weight.sum())))


def _size(length: int, count: int, overlap: int) -> int:
    """The least side, a multiple of GRANULE, of `count` tiles that cover `length` pixels with `overlap` in common."""
    return _rounded_up(-(-(length + (count - 1) * overlap) // count))


def _origins(length: int, size: int, count: int) -> tuple[int, ...]:
    """Where `count` tiles of that size begin: evenly, at multiples of GRANULE, the last one reaching `length`.

    From `size` of `_size` follows that neighbours share the overlap: the last origin is at most (count - 1) times
    (size - overlap), which is a multiple of GRANULE, so that rounding moves no origin beyond it.
    """
    if count == 1:
        return (0,)
    last = _rounded_up(length - size)
    return tuple(index * last // (count - 1) // GRANULE * GRANULE for index in range(count))


def _rounded_up(length: int) -> int:
    return -(-length // GRANULE) * GRANULE
