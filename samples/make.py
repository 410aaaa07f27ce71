"""Makes the sample uploads and what is true of them, from `originals/` (registered) and `donors/` (held back).

    python samples/make.py [FOLDER]

In: the photographs. Out, in FOLDER (default: this one): `uploads/*`, `truth/*.png` (white where the picture was edited,
in the upload's upright pixels) and `truth.json`. Nothing is random: the same library versions give the same bytes.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
CLEAN = ["no_evidence"]
FOUND = ["manipulated"]
BLIND_CLEAN = ["no_evidence", "inconclusive"]  # without an original only the blind path looks, and it may doubt
BLIND_FOUND = ["manipulated", "inconclusive"]

# Outlines, as points of a picture 1024 pixels wide.
WALRUS = (
    "197,470 230,445 260,410 300,385 350,360 400,345 440,338 478,336 530,322 580,308 630,290 680,272 720,262 745,245 "
    "765,215 785,188 815,170 850,165 890,170 925,200 945,235 970,280 995,330 1010,380 1008,430 995,470 998,545 960,548 "
    "900,552 780,556 700,545 640,540 600,540 560,548 480,553 440,550 345,545 255,545 230,545 200,500"
)
STONE = "455,572 490,550 530,536 560,543 588,575 599,605 587,634 545,638 503,622 478,597"
FLAT_STONE = "300,506 330,488 400,484 450,484 478,512 465,532 400,534 340,524"
SAILS = ("480,395 615,340 632,362 500,424", "700,330 832,268 842,290 708,360")


@dataclass(frozen=True)
class Sample:
    """One upload: its file, what it is in words, and what a verdict may say of it."""

    name: str
    data: bytes
    about: str
    decisions: list[str]
    original: str | None = None
    mask: np.ndarray | None = None
    rejection: str | None = None
    donor: str | None = None

    def truth(self) -> dict[str, Any]:
        """Its entry in truth.json."""
        return {
            "file": f"uploads/{self.name}",
            "about": self.about,
            "original": self.original and f"originals/{self.original}.jpg",
            "donor": self.donor,
            "mask": None if self.mask is None else f"truth/{Path(self.name).stem}.png",
            "decisions": self.decisions,
            "rejection": self.rejection,
        }


def main(folder: Path) -> None:
    """Writes everything below `folder`."""
    for part in ("uploads", "truth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    samples = [*edits(), *without_originals(), *copies(), *oddities(), *unusable()]
    for sample in samples:
        (folder / "uploads" / sample.name).write_bytes(sample.data)
        if sample.mask is not None:
            Image.fromarray(sample.mask).convert("1").save(folder / "truth" / f"{Path(sample.name).stem}.png")
    text = json.dumps([sample.truth() for sample in samples], indent=2)
    (folder / "truth.json").write_text(text + "\n", encoding="utf-8")


# -- the kinds of uploads -----------------------------------------------------------------------------------------


def edits() -> list[Sample]:
    """Registered pictures, edited in place."""
    windmill, lake, sign = photo("originals/windmill"), photo("originals/lake"), photo("originals/sign")
    head, shape = giraffe(0.62)
    spliced = pasted(windmill, head[:, ::-1].copy(), shape[:, ::-1].copy(), at=(0, 412))  # mirrored
    copied = pasted(lake, lake, outline(lake, STONE), at=(-300, 12))
    gone = erased(lake, FLAT_STONE)
    recoloured = repainted(windmill, SAILS)
    lettered = relettered(sign, (196, 456, 362, 514), "COLORLESS")
    return [
        edited("windmill-giraffe.jpg", windmill, spliced, "windmill", "a giraffe from another photograph pasted in"),
        edited("lake-extra-stone.jpg", lake, copied, "lake", "a stone copied to another place of the picture"),
        edited("lake-stone-gone.jpg", lake, gone, "lake", "a stone painted over with water"),
        edited("windmill-blue-sails.jpg", windmill, recoloured, "windmill", "the orange sails made blue"),
        edited("sign-text.jpg", sign, lettered, "sign", "a word of the sign replaced"),
    ]


def without_originals() -> list[Sample]:
    """Pictures that nobody registered: two forged, one of them with a part of a registered picture; one as it is."""
    desert, canyon = photo("donors/desert"), photo("donors/canyon")
    moved = pasted(desert, *giraffe(0.75), at=(258, 169))
    walrus = photo("donors/walrus")
    wide = pasted(canyon, *scaled(walrus, outline(walrus, WALRUS), 0.6), at=(160, 265))
    return [
        Sample(
            "desert-giraffe.jpg",
            jpeg(moved),
            "an object of the registered giraffe moved to a picture that nobody registered",
            BLIND_FOUND,
            mask=changed(desert, moved),
            donor="originals/giraffe.jpg",
        ),
        Sample(
            "canyon-walrus.jpg",
            jpeg(wide),
            "forged, nothing of it registered: a walrus pasted in",
            BLIND_FOUND,
            mask=changed(canyon, wide),
        ),
        Sample("capsule.jpg", jpeg(photo("donors/capsule"), 85), "a clean photograph, not registered", BLIND_CLEAN),
    ]


def copies() -> list[Sample]:
    """Registered pictures that were only stored differently."""
    lake, pier = photo("originals/lake"), photo("originals/pier")
    height, width = lake.shape[:2]
    small = cv2.resize(pier, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    exact = (HERE / "originals" / "lighthouse.jpg").read_bytes()
    return [
        Sample("lighthouse.jpg", exact, "byte for byte a registered picture", CLEAN, "lighthouse"),
        Sample("windmill-again.jpg", jpeg(photo("originals/windmill"), 40), "recompressed hard", CLEAN, "windmill"),
        Sample("pier-half.webp", encoded(small, "WEBP", quality=80), "half the size, as WebP", CLEAN, "pier"),
        Sample(
            "lake-cropped.jpg",
            jpeg(lake[20 : height - 25, 30 : width - 22]),
            "cropped on all sides",
            CLEAN,
            "lake",
        ),
    ]


def oddities() -> list[Sample]:
    """Clean copies in kinds of files that careless decoders get wrong."""
    pier, sign, lighthouse = photo("originals/pier"), photo("originals/sign"), photo("originals/lighthouse")
    cmyk = encoded(pier, "JPEG", mode="CMYK", quality=85)
    orientation = Image.Exif()
    orientation[0x0112] = 6  # to be turned a quarter clockwise before it is shown
    lying = np.rot90(cv2.resize(sign, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))
    deep = cv2.resize(lighthouse, (480, 279), interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.uint16) * 257
    frames = [Image.fromarray(np.roll(cv2.resize(pier, (320, 213)), 4 * step, axis=1)) for step in range(3)]
    moving = io.BytesIO()
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:], duration=200, loop=0)
    return [
        Sample("pier-cmyk.jpg", cmyk, "in printing colours (CMYK)", CLEAN, "pier"),
        Sample(
            "sign-sideways.jpg", encoded(lying, "JPEG", quality=85, exif=orientation), "EXIF-rotated", CLEAN, "sign"
        ),
        Sample("lighthouse-16bit.png", cv2.imencode(".png", deep)[1].tobytes(), "16-bit PNG", CLEAN, "lighthouse"),
        Sample("pier-moving.gif", moving.getvalue(), "an animation, whose first frame counts", CLEAN, "pier"),
    ]


def unusable() -> list[Sample]:
    """What the guard turns away."""
    whole = (HERE / "originals" / "lighthouse.jpg").read_bytes()
    text = b"<!doctype html><title>Not found</title><p>This is no picture.</p>\n"
    return [
        Sample("truncated.jpg", whole[: len(whole) * 6 // 10], "cut off", ["rejected"], rejection="truncated"),
        Sample("bomb.png", bomb(30_000), "900 million pixels", ["rejected"], rejection="too_many_pixels"),
        Sample("page.jpg", text, "no image at all", ["rejected"], rejection="unsupported_type"),
    ]


# -- the tools of a forger ----------------------------------------------------------------------------------------


def photo(name: str) -> np.ndarray:
    """[H,W,3] uint8 RGB of a photograph beside this file."""
    return np.array(Image.open(HERE / f"{name}.jpg").convert("RGB"))


def outline(picture: np.ndarray, points: str) -> np.ndarray:
    """[H,W] uint8 mask, 255 inside the polygon, whose points are given for a picture 1024 pixels wide."""
    scale = picture.shape[1] / 1024
    polygon = [[int(float(value) * scale) for value in point.split(",")] for point in points.split()]
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.array(polygon, np.int32)], 255)
    return mask


def giraffe(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The giraffe and its mask: everything that is not the sky, which is bluer than red and bright."""
    picture = photo("originals/giraffe")
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    figure = ((blue - red < 6) | (red < 150)).astype(np.uint8) * 255
    figure = cv2.morphologyEx(figure, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(figure, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = cv2.drawContours(np.zeros_like(figure), [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return scaled(picture, cv2.erode(solid, np.ones((3, 3), np.uint8)), scale)


def scaled(picture: np.ndarray, mask: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Picture and mask, smaller."""
    small, small_mask = (cv2.resize(e, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for e in (picture, mask))
    return np.asarray(small), np.asarray(small_mask)


def pasted(host: np.ndarray, donor: np.ndarray, mask: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """The masked part of `donor` laid into `host`, with its top left corner at (x, y) and a soft edge."""
    shift = np.array([[1, 0, at[0]], [0, 1, at[1]]], np.float32)
    size = host.shape[1], host.shape[0]
    object_ = cv2.warpAffine(donor, shift, size, flags=cv2.INTER_NEAREST)
    alpha = cv2.warpAffine(cv2.GaussianBlur(mask, (3, 3), 0), shift, size, flags=cv2.INTER_NEAREST)[..., None] / 255.0
    blended: np.ndarray = np.round(host * (1 - alpha) + object_ * alpha).astype(np.uint8)
    return blended


def erased(picture: np.ndarray, points: str) -> np.ndarray:
    """A polygon filled with what surrounds it, and with grain like the picture's."""
    mask = outline(picture, points)
    filled = cv2.inpaint(picture, mask, 7, cv2.INPAINT_TELEA).astype(np.int16)
    grain = np.random.default_rng(7).normal(0, 2.0, picture.shape[:2])[..., None]
    return np.where(mask[..., None] > 0, np.clip(np.round(filled + grain), 0, 255), picture).astype(np.uint8)


def repainted(picture: np.ndarray, polygons: tuple[str, ...]) -> np.ndarray:
    """Orange made blue inside the polygons; light and shade stay."""
    inside = np.maximum.reduce([outline(picture, points) for points in polygons])
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    orange = (inside > 0) & (hsv[..., 0] < 22) & (hsv[..., 1] > 90)
    hsv[..., 0] = np.where(orange, 112, hsv[..., 0])
    return np.where(orange[..., None], cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), picture)


def relettered(picture: np.ndarray, box: tuple[int, int, int, int], word: str) -> np.ndarray:
    """The bright letters in `box` (left, top, right, bottom) painted over, and a word written there."""
    left, top, right, bottom = box
    letters = np.zeros(picture.shape[:2], np.uint8)
    letters[top:bottom, left:right] = (picture[top:bottom, left:right].min(axis=2) > 60) * 255
    plain = cv2.inpaint(picture, cv2.dilate(letters, np.ones((5, 5), np.uint8)), 5, cv2.INPAINT_TELEA)
    image = Image.fromarray(plain)
    font = ImageFont.load_default(size=33)
    width = font.getlength(word)
    place = (left + (right - left - width) / 2, (top + bottom) / 2 - 20)
    ImageDraw.Draw(image).text(place, word, fill=(233, 221, 212), font=font)
    return np.array(image)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[H,W] uint8 mask of the edit: every pixel that differs, small gaps closed."""
    differs = (np.abs(before.astype(int) - after).max(axis=2) > 2).astype(np.uint8) * 255
    return cv2.morphologyEx(differs, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))


# -- files --------------------------------------------------------------------------------------------------------


def edited(name: str, before: np.ndarray, after: np.ndarray, original: str, about: str) -> Sample:
    """A forgery in place of a registered picture."""
    return Sample(name, jpeg(after), about, FOUND, original, mask=changed(before, after))


def jpeg(picture: np.ndarray, quality: int = 88) -> bytes:
    """A JPEG as an editor saves it."""
    return encoded(picture, "JPEG", quality=quality, optimize=True)


def encoded(picture: np.ndarray, kind: str, *, mode: str = "RGB", **options: Any) -> bytes:
    """The picture as a file of Pillow's format `kind`."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A valid black PNG of `side` x `side` pixels, a thousandth of that in bytes."""
    pack = zlib.compressobj(9)
    row = b"\0" * (1 + (side + 7) // 8)
    pixels = b"".join([*(pack.compress(row) for _ in range(side)), pack.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
