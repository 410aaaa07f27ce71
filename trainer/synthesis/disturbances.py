"""What happens to a picture between a camera, an editor and a platform, without anybody forging anything.

In: a picture [H,W,3] uint8. Out: a picture of the same size. All randomness is drawn beforehand into a frozen value, so
that a forgery and its authentic twin go through exactly the same steps, and the file format cannot become a shortcut.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from services.core.pixels import STANDARD_STEPS

SAVED_AGAIN = 0.4
"""How often a picture that a network is fitted on was saved once more after its forger had done with it."""

_CHROMA_STEPS = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Steps in the order in which they are applied. Neutral values do nothing.

    `resize` scales there and back (1 = not at all); `sigma` is a Gaussian blur in pixels; `gain`, `offset` (0..255)
    and `gamma` change each channel; `saturation` 0 is greyscale; `contrast` stretches around mid grey; `sharpen` is
    the strength of an unsharp mask of a pixel's width, `clarity` of one as wide as a 20th of the picture (local
    contrast; negative flattens); `vignette` darkens towards the corners by that share; `noise` is the standard
    deviation in grey levels; `jpeg` lists qualities of consecutive saves and `chroma` whether the last keeps full
    colour resolution.
    """

    resize: float = 1.0
    sigma: float = 0.0
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0
    gamma: float = 1.0
    saturation: float = 1.0
    contrast: float = 1.0
    sharpen: float = 0.0
    clarity: float = 0.0
    vignette: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    jpeg: tuple[int, ...] = ()
    chroma: bool = False

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """The disturbed picture, same shape, uint8. Deterministic."""
        picture = _there_and_back(picture, self.resize)
        if self.sigma > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), self.sigma)
        if self.sharpen > 0:
            soft = cv2.GaussianBlur(picture, (0, 0), 1.0)
            picture = cv2.addWeighted(picture, 1.0 + self.sharpen, soft, -self.sharpen, 0.0)
        picture = self._recoloured(self._toned(self._lit(picture)))
        if self.noise > 0:
            picture = noisy(picture, self.noise, self.noise_seed)
        for quality in self.jpeg:
            picture = jpeg(picture, quality, full_chroma=self.chroma)
        return picture

    def _lit(self, picture: np.ndarray) -> np.ndarray:
        if self.clarity == 0.0 and self.vignette == 0.0:
            return picture
        height, width = picture.shape[:2]
        levels = picture.astype(np.float32)
        if self.clarity != 0.0:
            around = cv2.GaussianBlur(levels, (0, 0), max(height, width) / 20)
            levels += self.clarity * (levels - around)
        if self.vignette != 0.0:
            y = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
            x = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
            levels *= 1.0 - self.vignette * (x**2 + y**2) / 2.0
        return np.asarray(np.clip(np.round(levels), 0, 255), np.uint8)

    def _toned(self, picture: np.ndarray) -> np.ndarray:
        if self.saturation == 1.0 and self.contrast == 1.0:
            return picture
        levels = picture.astype(np.float32)
        grey = levels @ np.array([0.299, 0.587, 0.114], np.float32)
        levels = grey[..., None] + (levels - grey[..., None]) * self.saturation
        levels = 127.5 + (levels - 127.5) * self.contrast
        return np.asarray(np.clip(np.round(levels), 0, 255), np.uint8)

    def _recoloured(self, picture: np.ndarray) -> np.ndarray:
        if self.gain == (1.0, 1.0, 1.0) and self.offset == 0.0 and self.gamma == 1.0:
            return picture
        levels = np.arange(256, dtype=np.float32) / 255.0
        curves = [255.0 * gain * levels**self.gamma + self.offset for gain in self.gain]
        table = np.clip(np.round(np.stack(curves, axis=1)), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(picture, table[None]))


@dataclass(frozen=True, slots=True)
class File:
    """How a single picture reaches us: a disturbance and the last save.

    `steps` are those of the last JPEG, luma and chroma [2,64] row by row, or None for a file without loss. `hidden`:
    the JPEG was saved again without loss, so nobody tells us its steps.
    """

    before: Disturbance
    steps: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    chroma: bool = False
    hidden: bool = False

    def save(self, picture: np.ndarray) -> tuple[np.ndarray, tuple[int, ...] | None]:
        """The picture [H,W,3] uint8 as decoded from the file, and the luma steps that the file tells of."""
        picture = self.before.apply(picture)
        if self.steps is None:
            return picture, None
        buffer = io.BytesIO()
        sampling = 0 if self.chroma else 2
        Image.fromarray(picture).save(buffer, "JPEG", qtables=[list(t) for t in self.steps], subsampling=sampling)
        with Image.open(buffer) as image:
            return np.array(image), None if self.hidden else self.steps[0]


def file(rng: np.random.Generator) -> File:
    """A random way to the last file: mostly a JPEG, at times after one or two others, as social networks do."""
    plain = saved(rng)
    chance = rng.random()
    if chance < 0.2:
        return File(replace(plain, jpeg=()))
    earlier = plain.jpeg[:1] if chance > 0.8 else ()
    quality = int(rng.integers(75, 99)) if rng.random() < 0.6 else int(rng.integers(50, 96))
    steps = quantisation(quality, rng if rng.random() < 0.35 else None)
    hidden, chroma = bool(rng.random() < 0.12), bool(rng.random() < 0.35)
    return File(replace(plain, jpeg=earlier), steps=steps, chroma=chroma, hidden=hidden)


def saved_again(rng: np.random.Generator) -> File | None:
    """A further, mostly coarser save by whoever passes a picture on, or None for the six in ten that nobody did.

    The grid of the save before stays where it was: nothing is cropped. At times the picture is softened or resampled.
    """
    if rng.random() >= SAVED_AGAIN:
        return None
    chance = rng.random()
    before = Disturbance(
        resize=float(rng.uniform(0.5, 0.9)) if chance < 0.08 else 1.0,
        sigma=float(rng.uniform(0.4, 1.0)) if chance > 0.94 else 0.0,
    )
    steps = quantisation(int(rng.integers(60, 93)), rng if rng.random() < 0.2 else None)
    return File(before, steps=steps, chroma=bool(rng.random() < 0.15), hidden=bool(rng.random() < 0.12))


def quantisation(quality: int, rng: np.random.Generator | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Steps of luma and chroma at a quality 1..100, 64 each row by row: libjpeg's, or with `rng` a table of another
    encoder's kind, flatter or steeper and uneven, as those of cameras and editors are."""
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    tables = []
    slope, grain = (0.0, 0.0) if rng is None else (float(rng.normal(0, 0.25)), float(rng.uniform(0, 0.2)))
    down, across = np.divmod(np.arange(64), 8)
    for base in (STANDARD_STEPS, _CHROMA_STEPS):
        steps = np.asarray(base, np.float64) * scale / 100.0
        if rng is not None:
            steps = steps * np.exp(slope * ((down + across) / 7.0 - 1.0) + rng.normal(0, grain, 64))
        tables.append(tuple(int(v) for v in np.clip(np.floor(steps + 0.5), 1, 255)))
    return tables[0], tables[1]


def camera(rng: np.random.Generator) -> Disturbance:
    """The history of a photograph before anybody edits it: sensor noise, one save as JPEG or none."""
    return Disturbance(
        sigma=float(rng.uniform(0.4, 1.5)) if rng.random() < 0.25 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.7), np.log(8.0)))) if rng.random() < 0.6 else 0.0,
        noise_seed=int(rng.integers(2**31)),
        jpeg=(int(rng.integers(60, 100)),) if rng.random() < 0.75 else (),
        chroma=bool(rng.random() < 0.3),
    )


def saved(rng: np.random.Generator) -> Disturbance:
    """How an edited picture reaches us: mostly as JPEG, sometimes resized or saved twice.

    Three in ten are not recompressed at all: a small network from random weights first has to meet traces that
    survived before it can learn those that nearly did not.
    """
    return Disturbance(
        resize=float(np.exp(rng.uniform(np.log(0.6), np.log(1.6)))) if rng.random() < 0.08 else 1.0,
        sigma=float(rng.uniform(0.3, 0.8)) if rng.random() < 0.05 else 0.0,
        gamma=float(np.exp(rng.normal(0, 0.1))) if rng.random() < 0.15 else 1.0,
        noise=float(rng.uniform(0.3, 2.0)) if rng.random() < 0.08 else 0.0,
        noise_seed=int(rng.integers(2**31)),
        jpeg=_qualities(rng, none=0.3, lowest=60),
        chroma=bool(rng.random() < 0.35),
    )


def side(rng: np.random.Generator) -> Disturbance:
    """What one side of a pair went through on its own way: resampling, recompression, global colour."""
    coloured = rng.random() < 0.4
    gains = np.exp(rng.normal(0, 0.08, 3) + rng.normal(0, 0.1)) if coloured else np.ones(3)
    return Disturbance(
        resize=float(np.exp(rng.uniform(np.log(0.45), np.log(1.6)))) if rng.random() < 0.5 else 1.0,
        sigma=float(rng.uniform(0.3, 1.6)) if rng.random() < 0.25 else 0.0,
        gain=(float(gains[0]), float(gains[1]), float(gains[2])),
        offset=float(rng.normal(0, 8)) if coloured else 0.0,
        gamma=float(np.exp(rng.normal(0, 0.15))) if rng.random() < 0.25 else 1.0,
        saturation=float(rng.choice([0.0, rng.uniform(0.4, 1.6)], p=[0.15, 0.85])) if rng.random() < 0.15 else 1.0,
        contrast=float(np.exp(rng.normal(0, 0.15))) if rng.random() < 0.2 else 1.0,
        sharpen=float(rng.uniform(0.2, 1.6)) if rng.random() < 0.22 else 0.0,
        clarity=float(rng.uniform(-0.3, 0.5)) if rng.random() < 0.15 else 0.0,
        vignette=float(rng.uniform(0.05, 0.35)) if rng.random() < 0.08 else 0.0,
        noise=float(rng.uniform(0.5, 4.0)) if rng.random() < 0.15 else 0.0,
        noise_seed=int(rng.integers(2**31)),
        jpeg=_qualities(rng, none=0.2, lowest=40),
        chroma=bool(rng.random() < 0.3),
    )


def jpeg(picture: np.ndarray, quality: int, *, full_chroma: bool = False) -> np.ndarray:
    """The picture after one save as JPEG (4:4:4 or 4:2:0), [H,W,3] uint8 RGB."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_chroma else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)


def noisy(picture: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Signal-dependent sensor noise: `deviation` grey levels at mid grey, less in the shadows."""
    rng = np.random.default_rng(seed)
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    strength = deviation * (0.5 + picture.astype(np.float32) / 255.0)
    return np.asarray(np.clip(np.round(picture + grain * strength), 0, 255), np.uint8)


def _qualities(rng: np.random.Generator, *, none: float, lowest: int) -> tuple[int, ...]:
    if rng.random() < none:
        return ()
    count = 2 if rng.random() < 0.2 else 1
    return tuple(int(q) for q in rng.integers(lowest, 100, count))


def _there_and_back(picture: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1.0:
        return picture
    height, width = picture.shape[:2]
    there = (max(8, round(width * factor)), max(8, round(height * factor)))
    first, second = (cv2.INTER_AREA, cv2.INTER_CUBIC) if factor < 1 else (cv2.INTER_CUBIC, cv2.INTER_AREA)
    return cv2.resize(cv2.resize(picture, there, interpolation=first), (width, height), interpolation=second)
