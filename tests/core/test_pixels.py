"""Opening images: what comes out of good files, and that bad ones are refused with the right reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from services.core import pixels
from services.core.errors import REJECTION_CODES, Broken, Rejected

WIDTH, HEIGHT = 96, 64


def scene(width: int = WIDTH, height: int = HEIGHT) -> pixels.Pixels:
    """A smooth picture whose four corners differ: red left, green below, with a blue diagonal."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [230 * (1 - x) + 10, 230 * y + 10, 120 + 100 * np.sin(6 * (x + y))]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def file(kind: str, mode: str = "RGB", picture: pixels.Pixels | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene() if picture is None else picture).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def near(first: np.ndarray, second: np.ndarray, tolerance: float = 4.0) -> bool:
    return first.shape == second.shape and float(np.abs(first.astype(int) - second).mean()) < tolerance


def code(data: bytes, **limits: int) -> str:
    with pytest.raises(Rejected) as caught:
        pixels.open_image(data, **limits)
    return caught.value.code


# -- good files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", pixels.FORMATS)
def test_every_format_opens_as_what_its_content_is(kind: str) -> None:
    picture = pixels.open_image(file(kind))
    assert (picture.format, picture.width, picture.height, picture.notes) == (kind, WIDTH, HEIGHT, ())
    assert picture.rgb.dtype == np.uint8
    assert near(picture.rgb, scene(), 8.0)
    assert (picture.jpeg_quantisation is not None) == (kind == "JPEG")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_comes_upright_whatever_exif_says(kind: str, orientation: int) -> None:
    undo: dict[int, Callable[[pixels.Pixels], pixels.Pixels]] = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(kind, picture=np.ascontiguousarray(undo[orientation](scene())), exif=exif)
    for max_side in (None, 48):
        picture = pixels.open_image(data, max_side=max_side)
        assert (picture.width, picture.height) == (WIDTH, HEIGHT)
        expected = scene() if max_side is None else cv2.resize(scene(), (48, 32), interpolation=cv2.INTER_AREA)
        assert near(picture.rgb, expected, 8.0)
        assert ("exif_rotated" in picture.notes) == (orientation != 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_had_as_stored_with_its_quantisation_steps(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = (pixels.open_image(file("JPEG", quality=80, **extra)) for extra in ({}, {"exif": exif}))
    assert (turned.jpeg_steps is None) == (orientation != 1), "the grid of a turned picture starts elsewhere"
    stored = turned.as_stored()
    assert np.array_equal(stored.rgb, plain.rgb)
    assert stored.jpeg_steps == plain.jpeg_steps
    assert (stored.width, stored.height, stored.notes) == (plain.width, plain.height, ())
    assert np.array_equal(pixels.upright(stored.rgb, turned.orientation), turned.rgb)
    assert np.array_equal(pixels.stored(turned.rgb, turned.orientation), plain.rgb)


def test_an_orientation_that_does_not_exist_is_no_orientation() -> None:
    with pytest.raises(ValueError, match=r"1\.\.8"):
        pixels.upright(scene(), 9)


@pytest.mark.parametrize(
    ("kind", "mode", "note"),
    [
        ("JPEG", "CMYK", "cmyk_converted"),
        ("TIFF", "CMYK", "cmyk_converted"),
        ("JPEG", "YCbCr", None),
        ("PNG", "P", None),
        ("GIF", "P", None),
        ("PNG", "RGBA", None),
        ("TIFF", "RGBA", None),
        ("WEBP", "RGBA", None),
    ],
)
def test_other_colour_modes_become_rgb(kind: str, mode: str, note: str | None) -> None:
    picture = pixels.open_image(file(kind, mode))
    assert near(picture.rgb, scene(), 25.0 if mode == "P" else 4.0)  # palettes are dithered
    assert picture.notes == ((note,) if note else ())


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "L"), ("PNG", "LA"), ("JPEG", "L"), ("BMP", "L"), ("TIFF", "LA")])
def test_grey_pictures_get_three_equal_channels(kind: str, mode: str) -> None:
    rgb = pixels.open_image(file(kind, mode)).rgb
    assert rgb.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(rgb[..., 0], rgb[..., 2])
    assert near(rgb[..., 0], pixels.to_grey(scene()))


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight_and_it_is_noted(extension: str, channels: int) -> None:
    deep = np.dstack([scene()[..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)]).astype(np.uint16) * 257
    stored = deep[..., 1] if channels == 1 else deep[..., :channels]
    picture = pixels.open_image(cv2.imencode(extension, stored)[1].tobytes())
    expected = np.dstack([scene()[..., 1]] * 3) if channels == 1 else scene()
    assert near(picture.rgb, expected, 1.5)
    assert "depth_reduced" in picture.notes


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_picture_without_a_fixed_white_is_stretched_to_the_full_range(mode: str) -> None:
    values = np.linspace(-3.0, 5000.0, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    values[0, 0] = np.nan if mode == "F" else 0
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.float32 if mode == "F" else np.int32)).save(buffer, "TIFF")
    picture = pixels.open_image(buffer.getvalue())
    assert (int(picture.rgb.min()), int(picture.rgb.max())) == (0, 255)
    assert picture.notes == ("depth_reduced",)


def test_what_is_transparent_shows_white_and_it_is_noted() -> None:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[:, : WIDTH // 2] = 255
    picture = pixels.open_image(file("PNG", "RGBA", np.dstack([scene(), alpha])))
    assert near(picture.rgb[:, : WIDTH // 2], scene()[:, : WIDTH // 2])
    assert (picture.rgb[:, WIDTH // 2 :] == 255).all()
    assert picture.notes == ("alpha_flattened",)


def test_a_palette_with_a_transparent_colour_is_flattened_too() -> None:
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[:, WIDTH // 2 :] = 1
    image = Image.fromarray(indices, "P")
    image.putpalette([200, 0, 0, 0, 0, 200])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=1)
    picture = pixels.open_image(buffer.getvalue())
    assert picture.rgb[0, 0].tolist() == [200, 0, 0]
    assert picture.rgb[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first_counts_and_it_is_noted(kind: str) -> None:
    first, second = Image.fromarray(scene()), Image.fromarray(255 - scene())
    buffer = io.BytesIO()
    options = {} if kind == "TIFF" else {"duration": 100}
    first.save(buffer, kind, save_all=True, append_images=[second], **options)
    picture = pixels.open_image(buffer.getvalue())
    assert near(picture.rgb, scene(), 14.0)
    assert picture.notes == ("first_frame_of_many",)


def test_a_profile_other_than_srgb_is_applied_and_srgb_is_not() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert pixels.open_image(file("PNG", icc_profile=srgb)).notes == ()
    assert pixels.open_image(file("PNG", icc_profile=lab)).notes == ("icc_ignored",)  # a profile of other channels
    assert pixels.open_image(file("JPEG", icc_profile=b"no profile at all")).notes == ("icc_ignored",)
    swapped = swapped_profile()
    picture = pixels.open_image(file("PNG", icc_profile=swapped))
    assert picture.notes == ("icc_converted",)
    assert near(picture.rgb, scene()[..., [2, 1, 0]], 8.0)


def swapped_profile() -> bytes:
    """sRGB with red and blue exchanged, under another name: its effect can be foretold."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", profile[128:132])[0]
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = entries[b"rXYZ"], entries[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        bytes(profile[blue + 4 : blue + 12]),
        bytes(profile[red + 4 : red + 12]),
    )
    return bytes(profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")))


def test_the_quantisation_tables_come_in_zigzag_order_as_in_the_file() -> None:
    data = file("JPEG", quality=77)
    at = data.index(b"\xff\xdb")
    picture = pixels.open_image(data)
    assert picture.jpeg_quantisation is not None
    assert bytes(picture.jpeg_quantisation[0]) == data[at + 5 : at + 69]
    assert len(picture.jpeg_quantisation) == 2


@pytest.mark.parametrize("kind", pixels.FORMATS)
@pytest.mark.parametrize("max_side", [1000, 96, 50, 17])
def test_a_smaller_copy_keeps_the_shape_and_tells_the_full_size(kind: str, max_side: int) -> None:
    picture = pixels.open_image(file(kind, picture=scene(800, 600)), max_side=max_side)
    assert (picture.width, picture.height) == (800, 600)
    longest = min(max_side, 800)
    assert picture.rgb.shape == (round(longest * 0.75), longest, 3)
    expected = cv2.resize(scene(800, 600), picture.rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert near(picture.rgb, expected, 10.0)


def test_a_very_narrow_picture_keeps_at_least_one_row() -> None:
    assert pixels.open_image(file("PNG", picture=scene(4000, 16)), max_side=100).rgb.shape == (1, 100, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_what_follows_the_picture_does_no_harm(kind: str) -> None:
    page = b"<html><script>alert(1)</script></html>PK\x03\x04" + bytes(500)
    assert near(pixels.open_image(file(kind) + page).rgb, scene(), 8.0)


def test_broken_exif_does_not_spoil_the_picture() -> None:
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        b"nonsense",
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert near(pixels.open_image(file("JPEG", exif=exif)).rgb, scene())
        assert said == []


# -- bad files ----------------------------------------------------------------------------------------------------


def test_no_bytes_are_empty() -> None:
    assert code(b"") == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"<!doctype html><img src=x>",
        b"%PDF-1.7\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"PK\x03\x04",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"8BPS\0\x01",
        b"\0\0\x01\0\x01\0",
        b"P6 16 16 255\n" + bytes(768),
        b"BMW is no bitmap",
        b"\xff",
    ],
)
def test_other_types_are_not_even_tried(data: bytes) -> None:
    assert code(data) == "unsupported_type"


def png_of(width: int, height: int) -> bytes:
    """A PNG header that announces a size, and hardly any pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10_000, 9_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_before_decoding(width: int, height: int) -> None:
    assert code(png_of(width, height)) == "too_many_pixels"


def test_the_pixel_limit_is_the_callers_and_inclusive() -> None:
    data = file("PNG")
    assert pixels.open_image(data, max_pixels=WIDTH * HEIGHT).width == WIDTH
    assert code(data, max_pixels=WIDTH * HEIGHT - 1) == "too_many_pixels"
    with pytest.raises(ValueError, match="max_pixels"):
        pixels.open_image(data, max_pixels=100_000_000)  # there Pillow's own limit would speak first


def test_our_limits_leave_pillows_alone() -> None:
    code(png_of(30_000, 30_000))
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.parametrize(("width", "height"), [(15, 400), (400, 15), (1, 1)])
def test_a_picture_with_a_side_below_sixteen_pixels_is_too_small(width: int, height: int) -> None:
    assert code(file("PNG", picture=scene(width, height))) == "too_small"


@pytest.mark.parametrize("max_side", [None, 32])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", pixels.FORMATS)
def test_a_truncated_file_is_rejected_as_truncated(kind: str, share: float, max_side: int | None) -> None:
    noisy = np.random.default_rng(5).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    data = file(kind, picture=noisy)
    assert code(data[: int(len(data) * share)], **({"max_side": max_side} if max_side else {})) == "truncated"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}])
def test_a_jpeg_cut_anywhere_is_noticed_at_reduced_size_as_well_as_at_full(options: dict[str, Any]) -> None:
    data = file("JPEG", picture=scene(1000, 750), quality=85, **options)
    for cut in np.linspace(len(data) // 10, len(data) - 100, 40).astype(int):
        assert code(data[:cut]) == code(data[:cut], max_side=100) == "truncated"


def test_a_damaged_file_is_corrupt() -> None:
    png = file("PNG")
    assert code(png.replace(b"IDAT", b"IDOT", 1)) == "corrupt"
    jpeg = file("JPEG")
    scan = jpeg.index(b"\xff\xc0")
    assert code(jpeg[:scan] + b"\xff\xc3" + jpeg[scan + 2 :]) == "corrupt"  # lossless JPEG: no decoder of ours


_FILES = {kind: file(kind, picture=scene(40, 32)) for kind in pixels.FORMATS}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), kind=st.sampled_from(pixels.FORMATS), max_side=st.sampled_from([None, 16]))
def test_any_damage_leads_to_a_picture_or_a_rejection_and_to_nothing_else(
    data: st.DataObject, kind: str, max_side: int | None
) -> None:
    damaged = bytearray(_FILES[kind])
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) if data.draw(st.booleans()) else bytes(damaged)
    picture_or_rejection(cut, max_side)


@settings(max_examples=150, deadline=None)
@given(head=st.sampled_from([kind_of[:12] for kind_of in _FILES.values()]), tail=st.binary(max_size=400))
def test_garbage_behind_a_good_beginning_is_rejected(head: bytes, tail: bytes) -> None:
    picture_or_rejection(head + tail, None)


def picture_or_rejection(data: bytes, max_side: int | None) -> None:
    try:
        picture = pixels.open_image(data, max_pixels=1_000_000, max_side=max_side)
    except Rejected as rejected:
        assert rejected.code in REJECTION_CODES
    else:
        assert picture.rgb.ndim == 3
        assert picture.rgb.dtype == np.uint8
        assert min(picture.width, picture.height) >= pixels.MIN_SIDE


# -- masks --------------------------------------------------------------------------------------------------------


def test_a_mask_and_its_text_survive_the_way_through_png() -> None:
    mask = np.random.default_rng(1).integers(0, 256, (37, 53), dtype=np.uint8)
    data = pixels.encode_png(mask, {"score": "0.75", "model": "pair-1 ü"})
    back, text = pixels.read_mask_png(data)
    assert np.array_equal(back, mask)
    assert text == {"score": "0.75", "model": "pair-1 ü"}


def test_the_same_mask_gives_the_same_bytes_whatever_the_order_of_its_text() -> None:
    mask = np.zeros((20, 20), np.uint8)
    assert pixels.encode_png(mask, {"a": "1", "b": "2"}) == pixels.encode_png(mask, {"b": "2", "a": "1"})


@pytest.mark.parametrize("data", [b"", b"no png", file("PNG"), file("JPEG", "L"), file("PNG", "L")[:-40]])
def test_what_is_no_grey_png_is_the_model_servers_fault(data: bytes) -> None:
    with pytest.raises(Broken):
        pixels.read_mask_png(data)


def test_a_mask_above_the_limit_is_not_decoded() -> None:
    with pytest.raises(Broken, match="at most"):
        pixels.read_mask_png(file("PNG", "L"), max_pixels=100)
