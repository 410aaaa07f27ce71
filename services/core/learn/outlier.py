"""Whether a picture is unlike what a network was fitted on, by what its file alone tells. Pure.

In: the facts of an accepted image, and the ranges of these facts in the training data. Out: yes or no. Two facts decide
how much of an editing trace there can be at all: how many pixels a picture has, and with how many bits each is kept.
See docs/decisions/0020-outliers-by-file-facts.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.core.events import StoredImage

TAIL = 0.005
"""Share of the training data beyond each end of a range: 2 % of pictures like it are outliers, four tails of it."""

LEAST_PICTURES = 100
"""Pictures of a format that a range needs; a format with fewer counts as one that was not fitted on."""

Positive = Annotated[float, Field(gt=0)]


class Range(BaseModel):
    """From `low` to `high`, both included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _low_comes_first(self) -> Range:
        if self.low > self.high:
            raise ValueError(f"a range goes from low to high, not from {self.low} to {self.high}")
        return self

    def holds(self, value: float) -> bool:
        """Whether a value lies in it."""
        return self.low <= value <= self.high


class FormatRanges(BaseModel):
    """What training data of one format is like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixels: Annotated[Range, Field(description="Width times height.")]
    bits_per_pixel: Annotated[Range, Field(description="Bits of the file for each pixel.")]


class TrainingRanges(BaseModel):
    """What training data is like, by format (`JPEG`, `PNG`, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formats: Annotated[dict[str, FormatRanges], Field(min_length=1)]


def outlier(image: StoredImage, training: TrainingRanges) -> bool:
    """Whether a picture's format is missing in the training data, or its size or compression lies beyond nearly all."""
    ranges = training.formats.get(image.format)
    if ranges is None:
        return True
    return not (ranges.pixels.holds(_pixels(image)) and ranges.bits_per_pixel.holds(_bits_per_pixel(image)))


def training_ranges(images: Iterable[StoredImage]) -> TrainingRanges | None:
    """The ranges of all but the `TAIL`s, by format; None where no format has `LEAST_PICTURES`."""
    by_format: dict[str, list[StoredImage]] = defaultdict(list)
    for image in images:
        by_format[image.format].append(image)
    formats = {
        name: FormatRanges(
            pixels=_range([_pixels(each) for each in group]),
            bits_per_pixel=_range([_bits_per_pixel(each) for each in group]),
        )
        for name, group in sorted(by_format.items())
        if len(group) >= LEAST_PICTURES
    }
    return TrainingRanges(formats=formats) if formats else None


def _pixels(image: StoredImage) -> float:
    return float(image.width * image.height)


def _bits_per_pixel(image: StoredImage) -> float:
    return 8.0 * image.size_bytes / _pixels(image)


def _range(values: list[float]) -> Range:
    low, high = np.quantile(values, (TAIL, 1 - TAIL))
    return Range(low=float(low), high=float(high))
