"""Where the examples of a fit come from: generated as they come, of some kinds alone, and mixed with frozen samples.

In: the fit's settings. Out: a function from seed, index and size to an example, the same for the same numbers. Examples
2i and 2i+1 are twins: a forgery, and an authentic picture with the same history. The twin of a sample is a part of the
very same picture that nothing was done to, or a picture that a moderator called authentic; only where there is neither
is it a generated one. Else a network would learn to tell the world's pictures from ours.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from model_archive import preprocess
from services.core.errors import Broken
from services.core.pixels import open_image, read_mask_png, stored
from trainer.data import EXAMPLES, Example
from trainer.fit_settings import KINDS, FitSettings
from trainer.samples.reading import MARKED, Place, places
from trainer.synthesis import disturbances, edits, samples
from trainer.synthesis.photos import PhotoPool

Source = Callable[[PhotoPool, int, int, int], Example]

REVIEWED_SHARE = 0.5
"""How often the twin of a sample is one that a moderator called authentic, where there are any."""

GOOD_PART = 0.25
"""Of the marked pixels that a square of a picture can hold at most: what a square of a forgery must hold."""

_PAIR, _WINDOW, _AGAIN, _KIND = 31, 32, 9, 33  # apart from the numbers that other draws are seeded with
_TRIES = 8


def source(settings: FitSettings) -> Source:
    """The examples that a fit's settings ask for. Raises Broken where the dataset has nothing to learn from."""
    made = only(settings.kinds) if settings.kinds else EXAMPLES[settings.network]
    if not settings.dataset:
        return made
    return Mixed(places(settings.objects, settings.dataset, "train"), made, settings.samples_share)


def only(kinds: tuple[str, ...]) -> Source:
    """Generated forgeries of these kinds, one edit each, and their authentic twins."""
    chosen = [(make, share) for (make, share), kind in zip(edits.EDITS, KINDS, strict=True) if kind in kinds]
    shares = np.array([share for _, share in chosen])

    def example(pool: PhotoPool, seed: int, index: int, size: int) -> Example:
        rng = np.random.default_rng((seed, _KIND, index // 2))
        host, donor = (samples.camera_scene(pool, rng, size, labelled=rng.random() < 0.5) for _ in range(2))
        for _ in range(_TRIES):
            make = chosen[int(rng.choice(len(chosen), p=shares / shares.sum()))][0]
            edit = make(rng, host, donor)
            if edits.SMALLEST_SHARE < edit.mask.mean() < samples.MOST_EDITED:
                break
        picture, mask = (host.picture, np.zeros_like(edit.mask)) if index % 2 else (edit.picture, edit.mask)
        picture, steps = disturbances.file(rng).save(picture)
        return _passed_on(picture, steps, mask, seed, index)

    return example


class Mixed:
    """A share of the pairs of twins from samples, the others from `made`."""

    def __init__(self, found: list[Place], made: Source, share: float) -> None:
        """Raises Broken where no sample is forged."""
        self.forged = [place for place in found if place.facts["kind"] != "authentic"]
        self.authentic = [place for place in found if place.facts["kind"] == "authentic"]
        self.made, self.share = made, share
        if not self.forged:
            raise Broken("the dataset has no forged sample to train on: annotate more, and freeze another version")

    def __call__(self, pool: PhotoPool, seed: int, index: int, size: int) -> Example:
        """Example `index`; even ones are forgeries, the odd one after each is its twin."""
        rng = np.random.default_rng((seed, _PAIR, index // 2))
        if rng.random() >= self.share:
            return self.made(pool, seed, index, size)
        place = self.forged[int(rng.integers(len(self.forged)))]
        reviewed = self.authentic[int(rng.integers(len(self.authentic)))] if self.authentic else None
        twin = reviewed if rng.random() < REVIEWED_SHARE else None

        def cut(of: Place | None) -> Window | None:
            rng = np.random.default_rng((seed, _WINDOW, index // 2))  # twins are reduced and saved alike
            return None if of is None else window(rng, of, size, marked=index % 2 == 0)

        found = cut(place) if index % 2 == 0 else cut(twin) or cut(place) or cut(reviewed)
        if found is None:
            return self.made(pool, seed, index, size)
        return _passed_on(*found, seed, index)


Window = tuple[np.ndarray, tuple[int, ...] | None, np.ndarray]
"""Picture [S,S,3] uint8, its JPEG's 64 luma steps where they are known, and mask [S,S] bool."""


def window(rng: np.random.Generator, place: Place, size: int, *, marked: bool) -> Window | None:
    """A square of a sample's picture that holds a good part of its mask or, with `marked` false, nothing of it; None
    where it has none such. It lies on the grid of the JPEG. At times the picture is reduced first, and one that is
    smaller than `size` enlarged; then it is saved anew."""
    member = place.member()
    picture = open_image(member.picture)
    mask = stored(read_mask_png(member.mask)[0], picture.orientation) >= MARKED
    picture = picture.as_stored()
    rgb, steps = picture.rgb, picture.jpeg_steps
    factor = 1.0 / float(rng.uniform(*samples.REDUCTION)) if rng.random() < samples.REDUCED_SHARE else 1.0
    factor = max(factor, size / min(mask.shape))
    if factor != 1.0:
        wide, high = (max(size, round(side * factor)) for side in mask.shape[::-1])
        how = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC
        rgb = np.asarray(cv2.resize(rgb, (wide, high), interpolation=how), np.uint8)
        mask = cv2.resize(mask.astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA) > 0.5
    corner = _corner(rng, mask, size, marked=marked)
    if corner is None:
        return None
    cut = tuple(slice(start, start + size) for start in corner)
    part = np.ascontiguousarray(rgb[cut])
    if factor != 1.0:
        part, steps = disturbances.file(rng).save(part)
    return part, steps, np.ascontiguousarray(mask[cut])


def _corner(rng: np.random.Generator, mask: np.ndarray, size: int, *, marked: bool) -> tuple[int, int] | None:
    """The upper left corner of such a square, row and column, multiples of a JPEG block's side."""
    block = samples.GRID
    sums = cv2.integral(mask.astype(np.uint8))
    rows, columns = (np.arange(0, side - size + 1, block) for side in mask.shape)
    inside = (
        sums[np.ix_(rows + size, columns + size)]
        - sums[np.ix_(rows, columns + size)]
        - sums[np.ix_(rows + size, columns)]
        + sums[np.ix_(rows, columns)]
    )
    most = inside.max()
    fitting = np.argwhere(inside >= GOOD_PART * most if marked else inside == 0)
    if not len(fitting) or (marked and not most):
        return None
    row, column = fitting[int(rng.integers(len(fitting)))]
    return int(rows[row]), int(columns[column])


def _passed_on(picture: np.ndarray, steps: tuple[int, ...] | None, mask: np.ndarray, seed: int, index: int) -> Example:
    """The example, at times after a further save, as its twin's."""
    again = disturbances.saved_again(np.random.default_rng((seed, _AGAIN, index // 2)))
    if again is not None:
        picture, steps = again.save(picture)
    return preprocess.single_input(picture, steps), mask
