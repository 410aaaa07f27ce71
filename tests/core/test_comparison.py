"""Originals laid onto uploads, and what differs, as pictures."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from services.core.comparison import aligned, difference, lay
from services.core.pixels import Pixels


def scene(width: int, height: int) -> Pixels:
    """Soft colours, different at every place."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [0.5 + 0.4 * np.sin(2 * i + 4 * x * (i + 1) + 5 * y) for i in range(3)]
    return np.asarray(np.stack(waves, axis=-1) * 255, np.uint8)


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def opened(jpeg: bytes) -> npt.NDArray[np.int16]:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return np.asarray(image.convert("RGB"), np.int16)


def test_a_cropped_upload_has_its_original_pixel_over_pixel() -> None:
    original = scene(320, 240)
    upload = original[40:200, 60:260]
    laid = lay(png(upload), png(original), (1, 0, -60, 0, 1, -40, 0, 0, 1), max_side=1280)
    assert np.abs(opened(aligned(laid)) - upload).max() < 12  # JPEG's own
    assert opened(difference(laid)).max() < 12


def test_an_edit_stands_out_of_the_difference() -> None:
    original = scene(320, 240)
    upload = original.copy()
    upload[100:140, 200:250] = 255 - upload[100:140, 200:250]
    upload[20:40, 20:40] += 10  # too little for the eye
    shown = opened(difference(lay(png(upload), png(original), None, max_side=1280)))
    assert shown[110:130, 210:240].mean() > 120
    assert 30 < shown[25:35, 25:35].mean() < 50
    assert shown[180:220, 40:120].mean() < 4


def test_the_map_holds_in_smaller_pictures_too() -> None:
    original = scene(640, 480)
    upload = np.asarray(Image.fromarray(original[80:400, 120:520]).resize((800, 640), Image.Resampling.BICUBIC))
    homography = (2, 0, -239.5, 0, 2, -159.5, 0, 0, 1)  # twice the size, pixel centres on pixel centres
    laid = lay(png(upload), png(original), homography, max_side=200)
    assert laid.upload.shape == (160, 200, 3)
    assert np.abs(opened(aligned(laid)) - laid.upload).mean() < 3


def test_where_the_original_shows_nothing_there_are_lines_and_no_difference() -> None:
    original = scene(200, 200)
    laid = lay(png(scene(400, 200)), png(original), (1, 0, 0, 0, 1, 0, 0, 0, 1), max_side=1280)
    assert laid.covered[:, :190].all() and not laid.covered[:, 210:].any()
    for picture in (opened(aligned(laid)), opened(difference(laid))):
        outside = picture[:, 220:]
        assert 110 < outside.mean() < 140  # grey, neither black nor bright
        assert outside.std() > 4
