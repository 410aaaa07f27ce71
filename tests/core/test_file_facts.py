"""What files say about themselves, and what of it is told."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from services.core.errors import Rejected
from services.core.file_facts import LONGEST, read_file_facts


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 255, (48, 64, 3), np.uint8))


def jpeg(exif: Image.Exif | bytes = b"", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif, **options)
    return buffer.getvalue()


def camera(**changes: object) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Acme"
    exif[ExifTags.Base.Model] = "Box 2"
    for name, value in changes.items():
        exif[getattr(ExifTags.Base, name)] = value
    return exif


def test_camera_software_and_dates_are_told() -> None:
    exif = camera(Software="Darkroom 9", DateTime="2026:11:22 12:00:00")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:11:20 08:30:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] = "Acme 35 mm"
    facts = read_file_facts(jpeg(exif))
    assert (facts.camera, facts.lens, facts.software) == ("Acme Box 2", "Acme 35 mm", "Darkroom 9")
    assert (facts.taken, facts.changed) == ("2026:11:20 08:30:00", "2026:11:22 12:00:00")
    assert not facts.gps


def test_a_maker_that_the_model_repeats_is_named_once() -> None:
    assert read_file_facts(jpeg(camera(Model="ACME Box 3"))).camera == "ACME Box 3"


def test_of_a_position_only_its_presence_is_told() -> None:
    exif = camera()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.3)
    facts = read_file_facts(jpeg(exif))
    assert facts.gps
    assert "GPSLatitude" not in repr(facts) and "12.3" not in repr(facts)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_found_by_its_tables(quality: int) -> None:
    facts = read_file_facts(jpeg(quality=quality, progressive=quality > 80, subsampling="4:4:4"))
    assert facts.jpeg is not None
    assert abs(facts.jpeg.quality - quality) <= 2
    assert facts.jpeg.progressive == (quality > 80)
    assert (facts.jpeg.subsampling, facts.jpeg.tables, len(facts.jpeg.luma)) == ("4:4:4", 2, 64)


def test_text_is_one_printable_line_of_limited_length() -> None:
    facts = read_file_facts(jpeg(camera(Software="a\x1b[31m\nb" + "c" * 5000)))
    assert facts.software is not None
    assert facts.software.startswith("a [31m b")
    assert facts.software.isprintable() and len(facts.software) == LONGEST


@pytest.mark.parametrize("block", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"])
def test_exif_that_cannot_be_read_says_nothing(block: bytes) -> None:
    facts = read_file_facts(jpeg(block))
    assert (facts.camera, facts.gps) == (None, False)
    assert facts.jpeg is not None


def test_a_png_has_no_tables_but_may_name_software() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "Painter")
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=info)
    facts = read_file_facts(buffer.getvalue())
    assert (facts.format, facts.jpeg, facts.software) == ("PNG", None, "Painter")


def test_what_else_the_file_holds_is_named() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><xmpMM:History/></x:xmpmeta>'
    marks = read_file_facts(jpeg(comment=b"hello", xmp=xmp)).marks
    assert marks == ("XMP metadata", "an edit history by Adobe software", "a comment")


def test_what_is_no_picture_is_rejected() -> None:
    with pytest.raises(Rejected):
        read_file_facts(b"GIF")
    with pytest.raises(Rejected):
        read_file_facts(jpeg(), max_pixels=100)
