"""Notes on missing evidence: when they are given, and that they never clear a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.core import evidence
from services.core.pixels import open_image
from tests.core.test_pixels import scene, swapped_profile


def notes(kind: str = "JPEG", *, size: tuple[int, int] = (300, 200), mode: str = "RGB", **options: object) -> set[str]:
    buffer = io.BytesIO()
    Image.fromarray(scene(*size)).convert(mode).save(buffer, kind, **options)
    return set(evidence.notes_on(open_image(buffer.getvalue())))


def test_a_large_fine_jpeg_lacks_nothing() -> None:
    assert notes(quality=90) == set()


def test_a_file_that_is_no_jpeg_has_no_jpeg_history() -> None:
    assert notes("PNG") == {"no_jpeg_history"}
    assert notes("WEBP") == {"no_jpeg_history"}


@pytest.mark.parametrize(("quality", "coarse"), [(95, False), (51, False), (48, True), (10, True)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_below_quality_fifty_is_coarse_however_it_is_turned(
    quality: int, coarse: bool, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert notes(quality=quality, exif=exif) == ({"low_quality_jpeg"} if coarse else set())


@pytest.mark.parametrize("quality", [25, 40, 50, 75, 90])
def test_coarseness_is_the_scale_that_libjpeg_gave_the_standard_table(quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG", quality=quality)
    steps = open_image(buffer.getvalue()).jpeg_steps
    assert steps is not None
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    assert evidence.coarseness(steps) == pytest.approx(scale, abs=0.03)


def test_colours_that_were_converted_and_small_pictures_are_noted() -> None:
    assert notes(icc_profile=swapped_profile(), quality=90) == {"colours_converted"}
    assert notes(mode="CMYK", quality=90) == {"colours_converted"}
    assert notes(size=(300, 100), quality=90) == {"small_picture"}


def test_how_it_was_analysed_is_noted_in_a_fixed_order() -> None:
    picture = open_image(_png())
    found = evidence.notes_on(picture, reduced=True, out_of_time=True)
    assert found == ("no_jpeg_history", "small_picture", "reduced", "out_of_time")


def test_no_note_clears_a_picture() -> None:
    for slug, text in evidence.NOTES.items():
        for word in ("clean", "authentic", "genuine", "unedited", "original"):
            assert word not in f"{slug} {text}".lower()


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
