"""What a file says about itself beside its pixels: camera, software, dates, how it was compressed. Pure.

In: the stored bytes. Out: `FileFacts`, each text cut, printable and on one line. All of it can be forged and most
of it is stripped by platforms, so it is context for a person and no finding. Where a picture was taken stays in the
file: only that it says so is told.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, ImageCms, ImageFile, JpegImagePlugin

from services.core.evidence import coarseness
from services.core.pixels import MAX_PIXELS, header

LONGEST = 160
"""Characters of a text that are shown."""

_MAX_EXIF_BYTES = 1_000_000
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_GREY = 1
_UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""What Pillow's reader of EXIF raises on blocks that are none."""


@dataclass(frozen=True, slots=True)
class JpegFacts:
    """How a JPEG was compressed. `quality` is the setting of libjpeg that comes nearest to the luma table `luma`, 64
    numbers row by row; `tables` is how many tables there are."""

    quality: int
    luma: tuple[int, ...]
    tables: int
    subsampling: str | None
    progressive: bool


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the file says. None where it says nothing; `marks` names further things found in it, in words."""

    format: str
    mode: str
    size_bytes: int
    camera: str | None
    lens: str | None
    software: str | None
    taken: str | None
    changed: str | None
    gps: bool
    profile: str | None
    jpeg: JpegFacts | None
    marks: tuple[str, ...]


def read_file_facts(data: bytes, *, max_pixels: int = MAX_PIXELS) -> FileFacts:
    """The facts of an image of any type that `pixels.open_image` takes; nothing is decoded. Raises Rejected."""
    with header(data, max_pixels=max_pixels) as image:
        exif = _exif(image)
        return FileFacts(
            format=str(image.format),
            mode=str(image.mode),
            size_bytes=len(data),
            camera=_joined(exif.get("Make"), exif.get("Model")),
            lens=_text(exif.get("LensModel")),
            software=_text(exif.get("Software")) or _text(image.info.get("Software")),
            taken=_text(exif.get("DateTimeOriginal")),
            changed=_text(exif.get("DateTime")),
            gps=bool(exif.get("GPSInfo")),
            profile=_profile(image.info.get("icc_profile")),
            jpeg=_jpeg(image) if isinstance(image, JpegImagePlugin.JpegImageFile) else None,
            marks=_marks(image, data),
        )


def _exif(image: ImageFile.ImageFile) -> Mapping[str, Any]:
    """EXIF by the tags' names; empty where there is none, or none that can be read. Its errors are of any kind."""
    block = image.info.get("exif", b"")
    if not isinstance(block, bytes) or len(block) > _MAX_EXIF_BYTES:
        return {}
    try:
        found = image.getexif()
        tags: dict[int, Any] = dict(found) | dict(found.get_ifd(ExifTags.IFD.Exif))
        gps = bool(found.get_ifd(ExifTags.IFD.GPSInfo))
    except _UNREADABLE:
        return {}
    named = {ExifTags.TAGS.get(tag, ""): value for tag, value in tags.items()}
    return named | {"GPSInfo": gps}


def _jpeg(image: JpegImagePlugin.JpegImageFile) -> JpegFacts | None:
    tables = [tuple(int(step) for step in table) for _, table in sorted(image.quantization.items())]
    if not tables or len(tables[0]) != 64:
        return None
    sampling = JpegImagePlugin.get_sampling(image)
    return JpegFacts(
        quality=_quality(tables[0]),
        luma=tables[0],
        tables=len(tables),
        subsampling=None if image.layers == _GREY else _SUBSAMPLING.get(sampling),
        progressive=bool(image.info.get("progressive")),
    )


def _quality(luma: tuple[int, ...]) -> int:
    """The quality 1..100 whose table is as coarse as this one (libjpeg's rule, solved for quality)."""
    ratio = coarseness(luma)
    quality = 50 / ratio if ratio > 1 else 100 - 50 * ratio
    return max(1, min(100, math.floor(quality + 0.5)))


def _marks(image: ImageFile.ImageFile, data: bytes) -> tuple[str, ...]:
    present = {
        "XMP metadata": b"http://ns.adobe.com/xap/1.0/" in data or "xmp" in image.info,
        "an edit history by Adobe software": b"xmpMM:History" in data,
        "Photoshop resources": "photoshop" in image.info,
        "a C2PA manifest (not verified here)": b"jumbf" in data[:_MAX_EXIF_BYTES] and b"c2pa" in data,
        "a comment": "comment" in image.info,
        "several frames": bool(getattr(image, "is_animated", False)),
    }
    return tuple(name for name, found in present.items() if found)


def _profile(profile: object) -> str | None:
    """The description of an ICC profile, or that there is one."""
    if not isinstance(profile, bytes) or not profile:
        return None
    try:
        return _text(ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))) or "unnamed"
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return "unreadable"


def _joined(first: object, second: object) -> str | None:
    """Maker and model; the maker once where the model repeats it."""
    maker, model = _text(first), _text(second)
    if maker and model:
        return model if model.lower().startswith(maker.lower()) else f"{maker} {model}"[:LONGEST]
    return maker or model


def _text(value: object) -> str | None:
    """A value of EXIF as one printable line, None where nothing is left of it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    line = " ".join("".join(each if each.isprintable() else " " for each in value[: 4 * LONGEST]).split())
    return line[:LONGEST] or None
