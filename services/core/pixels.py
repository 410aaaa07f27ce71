"""The only opener of images in the project: untrusted bytes to pixels, and masks to and from PNG.

In: the bytes that somebody uploaded. Out: a `Picture` in 8-bit sRGB, upright, or `Rejected` with the reason. Never any
other error, whatever the bytes are. It exists so that limits, allowed formats and colour handling are decided once.

What protects us: the type is decided by content and only that one decoder of Pillow runs; the pixel limit is checked
before anything is decoded; nothing relies on, or changes, Pillow's global limits. A decoder that crashes the process or
runs for ever is for the caller's process pool to notice.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from services.core.errors import Broken, Rejected

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What we open, in Pillow's words."""

MIN_SIDE = 16
"""Pixels; below this neither a fingerprint nor a mask means anything."""

MAX_PIXELS = 64_000_000
"""Default pixel limit of `open_image`: larger than phone cameras make, 200 MB of RGB at most."""

_PILLOW_WARNS_AT = 89_478_485  # Image.MAX_IMAGE_PIXELS as Pillow ships it; above it Pillow has an opinion of its own
_MAX_PROFILE_BYTES = 4_000_000  # real CMYK profiles stay below 3 MB
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274  # TIFF tags, EXIF's too
_LYING = (5, 6, 7, 8)
_TURNED = range(2, 9)
STANDARD_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""The table of luma that ITU-T T.81 gives as an example (K.1), quality 50 of libjpeg, row by row."""

_ZIGZAG = sorted(range(64), key=lambda i: (sum(divmod(i, 8)), i // 8 if sum(divmod(i, 8)) % 2 else i % 8))


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image.

    `rgb` is [H,W,3] uint8 sRGB, upright. `width` and `height` are the full upright size, also where `max_side` made
    `rgb` smaller. `notes` are slugs that say what was changed on the way, e.g. `exif_rotated`. `orientation` is EXIF's
    value by which `rgb` was turned upright, 1 where it was not.
    """

    rgb: Pixels
    width: int
    height: int
    format: str
    jpeg_quantisation: tuple[tuple[int, ...], ...] | None
    notes: tuple[str, ...]
    orientation: int = 1

    def as_stored(self) -> Picture:
        """The picture as its file holds it, not turned upright: a JPEG's grid starts at its top left corner again.

        No pixel is copied. `upright` takes what is found in it back.
        """
        if self.orientation == 1:
            return self
        lying = self.orientation in _LYING
        return replace(
            self,
            rgb=stored(self.rgb, self.orientation),
            width=self.height if lying else self.width,
            height=self.width if lying else self.height,
            notes=tuple(note for note in self.notes if note != "exif_rotated"),
            orientation=1,
        )

    @property
    def jpeg_steps(self) -> tuple[int, ...] | None:
        """The 64 quantisation steps of luma, row by row, where `rgb` still lies on the grid of the JPEG that it was
        read from: neither reduced nor turned."""
        if not self.jpeg_quantisation or "exif_rotated" in self.notes:
            return None
        if (self.rgb.shape[1], self.rgb.shape[0]) != (self.width, self.height):
            return None
        steps = [0] * 64
        for place, step in zip(_ZIGZAG, self.jpeg_quantisation[0], strict=True):
            steps[place] = step
        return tuple(steps)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS, max_side: int | None = None) -> Picture:
    """The picture in `data`, every byte of which is decoded, so that a truncated file is noticed.

    With `max_side` the longer side of `rgb` is at most that many pixels, which is many times faster for large JPEGs
    (the decoder skips frequencies, not data). Of an animation the first frame is taken.

    Raises Rejected: empty, unsupported_type, too_many_pixels, too_small, truncated, corrupt, decoder_crashed.
    """
    if not 0 < max_pixels <= _PILLOW_WARNS_AT:
        raise ValueError(f"max_pixels is {max_pixels}, must be 1..{_PILLOW_WARNS_AT}")
    if not data:
        raise Rejected("empty", "the image has no bytes")
    kind = sniff(data)
    if kind is None:
        raise Rejected("unsupported_type", f"the bytes start like none of {', '.join(FORMATS)}")
    with _errors_mapped(kind, data), _quiet(), Image.open(io.BytesIO(data), formats=[kind]) as image:
        return _picture(image, kind, data, max_pixels, max_side)


@contextmanager
def header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Iterator[ImageFile.ImageFile]:
    """The image as Pillow knows it after its header, nothing decoded: for what stands in a file beside its pixels.

    Raises Rejected as `open_image` does, also for whatever goes wrong inside of the `with`.
    """
    if not data:
        raise Rejected("empty", "the image has no bytes")
    kind = sniff(data)
    if kind is None:
        raise Rejected("unsupported_type", f"the bytes start like none of {', '.join(FORMATS)}")
    with _errors_mapped(kind, data), _quiet(), Image.open(io.BytesIO(data), formats=[kind]) as image:
        if image.width * image.height > max_pixels:
            raise Rejected("too_many_pixels", f"{image.width} x {image.height} pixels are more than {max_pixels}")
        yield image


def sniff(data: bytes) -> str | None:
    """The image format that the bytes start as, one of FORMATS, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data[4:8] == b"ftyp":
        brands = {data[i : i + 4] for i in range(8, min(int.from_bytes(data[:4]), 256, len(data)), 4)}
        return "AVIF" if brands & {b"avif", b"avis"} else None
    if data.startswith(b"BM") and data[6:10] == b"\0\0\0\0":
        return "BMP"
    return None


def to_grey(rgb: Pixels) -> Pixels:
    """Luma of [H,W,3] uint8 RGB as [H,W] uint8 (ITU-R BT.601, as JPEG has it)."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An array [H,W,...] as a file holds it, turned upright as EXIF's `orientation` 1..8 says. A view, no copy.

    Source: CIPA DC-008 (Exif 2.32), tag Orientation. Raises ValueError for any other value.
    """
    match orientation:
        case 1:
            return array
        case 2:
            return array[:, ::-1]
        case 3:
            return array[::-1, ::-1]
        case 4:
            return array[::-1]
        case 5:
            return array.swapaxes(0, 1)
        case 6:
            return array.swapaxes(0, 1)[:, ::-1]
        case 7:
            return array.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            return array.swapaxes(0, 1)[::-1]
    raise ValueError(f"an orientation is 1..8, not {orientation}")


def stored(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The inverse of `upright`: an upright array [H,W,...] as the file holds it. A view, no copy."""
    return upright(array, {6: 8, 8: 6}.get(orientation, orientation))


def encode_png(pixels: Pixels, text: Mapping[str, str] | None = None, *, level: int = 1) -> bytes:
    """PNG of [H,W] uint8 grey or [H,W,3] uint8 RGB, with optional text chunks. The same input gives the same bytes.

    `level` is zlib's; masks are smooth, so 1 is nearly as small as 9 and several times faster.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in sorted((text or {}).items()):
        info.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=level, pnginfo=info)
    return buffer.getvalue()


def read_mask_png(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[Pixels, dict[str, str]]:
    """A mask that a model server made: [H,W] uint8, 0..255 = probability, and the PNG's text chunks.

    Raises Broken where it is no 8-bit grey PNG within the limit: our own handlers make nothing else.
    """
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode != "L" or image.width * image.height > max_pixels:
                raise Broken(f"a mask must be 8-bit grey with at most {max_pixels} pixels: {image.mode} {image.size}")
            image.load()
            text = {str(key): str(value) for key, value in getattr(image, "text", {}).items()}
            return np.array(image), text
    except (OSError, ValueError, SyntaxError, struct.error) as error:
        raise Broken(f"the model server's mask is no readable PNG ({len(data)} bytes): {error}") from error


# -- opening ------------------------------------------------------------------------------------------------------


@contextmanager
def _errors_mapped(kind: str, data: bytes) -> Iterator[None]:
    """Turns whatever Pillow raises into Rejected. Broad on purpose: decoders raise nearly everything on bad bytes."""
    try:
        yield
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected("too_many_pixels", f"the {kind} announces far too many pixels: {error}") from error
    except MemoryError as error:
        raise Rejected("decoder_crashed", f"the {kind} needs more memory to decode than there is") from error
    except Exception as error:
        if _ends_early(kind, data, error):
            raise Rejected("truncated", f"the {kind} of {len(data)} bytes ends before its picture does") from error
        raise Rejected("corrupt", f"the {kind} cannot be decoded: {type(error).__name__}: {error}"[:300]) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Pillow's warnings about odd metadata to ourselves: an upload must not choose what we log.

    Filters are process-wide in Python 3.11; at worst two threads that decode at once keep warnings silent.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _ends_early(kind: str, data: bytes, error: Exception) -> bool:
    """Whether a decoder's error means missing bytes rather than wrong ones."""
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return True
    match kind:
        case "JPEG":  # cut in the header, before the first scan
            return b"\xff\xda" not in data and not data.endswith(b"\xff\xd9")
        case "PNG":
            return b"IEND" not in data
        case "WEBP":
            return int.from_bytes(data[4:8], "little") + 8 > len(data)
        case "GIF":
            return b";" not in data[-16:]
        case "BMP":
            return int.from_bytes(data[2:6], "little") > len(data)
        case "TIFF":  # the directory often stands at the end
            return int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") + 2 > len(data)
        case "AVIF":
            return _boxes_end(data) > len(data)
    return False


def _boxes_end(data: bytes) -> int:
    """Where the last top-level box of an ISO base media file says that it ends."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16])
        if size < 8:  # 0 means up to the end of the file; the rest are invalid
            return len(data)
        at += size
    return at


def _picture(image: ImageFile.ImageFile, kind: str, data: bytes, max_pixels: int, max_side: int | None) -> Picture:
    """Checks the announced size, then decodes, normalises and turns the image upright."""
    width, height = image.size
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{width} x {height} pixels are more than the limit of {max_pixels}")
    if min(width, height) < MIN_SIDE:
        raise Rejected("too_small", f"{width} x {height} pixels: each side needs at least {MIN_SIDE}")
    small = _fitted(width, height, max_side)
    notes = _notes(image, kind, data)
    tables = _quantisation(image) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    orientation = int(image.tag_v2.get(_ORIENTATION, 1)) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    if small != (width, height):
        image.draft(None, small)  # JPEG only: decodes at 1/2, 1/4 or 1/8, never below `small`
    image.load()
    plain = _plain(image)
    if plain.size != small:
        plain = plain.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0)
    plain = _flattened(_in_srgb(plain, image.info.get("icc_profile"), notes), notes)
    turned = 1
    if orientation is None:
        orientation = turned = _exif_orientation(image.info.get("exif", b""))
        if orientation in _LYING:
            width, height = height, width
    if orientation in _TURNED:  # Pillow turns TIFFs itself, their size included
        notes.append("exif_rotated")
    rgb = np.ascontiguousarray(upright(np.array(plain), turned))
    return Picture(rgb, width, height, kind, tables, tuple(notes), turned)


def _fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size with the longer side at most `max_side`, the shape kept, never enlarged."""
    longer = max(width, height)
    if max_side is None or longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def _notes(image: ImageFile.ImageFile, kind: str, data: bytes) -> list[str]:
    """What the header already tells of what will be lost: further frames, depth, ink."""
    notes = []
    if getattr(image, "is_animated", False):
        notes.append("first_frame_of_many")
    depths = image.tag_v2.get(_BITS_PER_SAMPLE, (8,)) if isinstance(image, TiffImagePlugin.TiffImageFile) else (8,)
    if (kind == "PNG" and data[24] > 8) or max(depths) > 8 or image.mode[0] in "IF":
        notes.append("depth_reduced")
    if image.mode == "CMYK":
        notes.append("cmyk_converted")
    return notes


def _quantisation(image: JpegImagePlugin.JpegImageFile) -> tuple[tuple[int, ...], ...]:
    """The file's quantisation tables by ascending id, in zigzag order (Pillow gives them row by row)."""
    return tuple(tuple(int(table[i]) for i in _ZIGZAG) for _, table in sorted(image.quantization.items()))


def _exif_orientation(exif: bytes) -> int:
    """Orientation 1..8 of an EXIF block, 1 where it cannot be read. Pillow's reader raises too many kinds of errors."""
    tiff = exif.removeprefix(b"Exif\0\0")
    if tiff[:2] not in (b"II", b"MM"):
        return 1
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    for at in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        if int.from_bytes(tiff[at : at + 2], order) == _ORIENTATION:
            value = int.from_bytes(tiff[at + 8 : at + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


# -- colours ------------------------------------------------------------------------------------------------------


def _plain(image: Image.Image) -> Image.Image:
    """The image in one of the modes L, LA, RGB, RGBA, CMYK, 8 bits a channel."""
    mode = image.mode
    if mode in ("I", "F"):  # no agreed white: take the darkest as black and the brightest as white
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8))
    if mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if mode in ("RGBA", "LA", "CMYK") or (mode in ("L", "RGB") and "transparency" not in image.info):
        return image
    if mode in ("PA", "RGBa", "La") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if mode == "1" else "RGB")


def _in_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """The image as RGB or RGBA in sRGB, by its ICC profile where it has a usable one."""
    colour, alpha = image, None
    if image.mode in ("LA", "RGBA"):
        alpha, colour = image.getchannel("A"), image.convert(image.mode[:-1])
    rgb = _by_profile(colour, profile, notes) if profile and len(profile) <= _MAX_PROFILE_BYTES else None
    if rgb is None:
        rgb = colour.convert("RGB")
    if alpha is not None:
        rgb.putalpha(alpha)
    return rgb


def _by_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image | None:
    """The image converted from its profile to sRGB; None where that changes nothing or cannot be done."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return None
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("icc_ignored")
        return None
    notes.append("icc_converted")
    return converted


def _flattened(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB of RGB or RGBA; what is transparent shows white, as on a page."""
    if image.mode == "RGB":
        return image
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    notes.append("alpha_flattened")
    page = Image.new("RGBA", image.size, (255, 255, 255, 255))
    page.alpha_composite(image)
    return page.convert("RGB")
