"""Pictures that show a verdict: the upload, the upload with what was flagged, and the original beside it.

In: pixels, a 0/1 mask and a caption. Out: one RGB picture. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]

PANEL_SIDE = 480  # pixels of a panel's longer side
MARGIN = 12
LINE = 22  # pixels a line of text takes
TINT = (230, 30, 60)
OUTLINE = (255, 235, 60)  # seen on skies and shadows alike
TINT_SHARE = 0.45
PAPER, INK = (250, 250, 248), (30, 30, 30)


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture [H,W,3] uint8 RGB with its title."""

    title: str
    rgb: Pixels


def marked(rgb: Pixels, binary: Pixels) -> Pixels:
    """`rgb` [H,W,3] with the flagged region, [H,W] uint8 0/1, tinted and outlined."""
    tinted = rgb.astype(np.float32)
    inside = binary.astype(bool)
    tinted[inside] = tinted[inside] * (1 - TINT_SHARE) + np.array(TINT, np.float32) * TINT_SHARE
    picture = np.ascontiguousarray(tinted.round().astype(np.uint8))
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    thickness = max(2, max(rgb.shape[:2]) // 300)
    return np.asarray(cv2.drawContours(picture, contours, -1, OUTLINE, thickness), np.uint8)


def sheet(panels: Sequence[Panel], caption: Sequence[str]) -> Pixels:
    """The panels side by side, each below its title, with the caption's lines underneath. [H,W,3] uint8 RGB."""
    pictures = [_fitted(panel.rgb) for panel in panels]
    width = max(sum(picture.shape[1] for picture in pictures) + MARGIN * (len(pictures) + 1), PANEL_SIDE * 2)
    height = max(picture.shape[0] for picture in pictures)
    font = ImageFont.load_default(size=15)
    lines = [line for text in caption for line in _wrapped(text, font, width - 2 * MARGIN)]
    page = Image.new("RGB", (width, height + LINE * (len(lines) + 1) + 3 * MARGIN), PAPER)
    draw = ImageDraw.Draw(page)
    left = MARGIN
    for panel, picture in zip(panels, pictures, strict=True):
        draw.text((left, MARGIN // 2), panel.title, fill=INK, font=font)
        page.paste(Image.fromarray(picture), (left, LINE + MARGIN // 2))
        left += picture.shape[1] + MARGIN
    for number, line in enumerate(lines):
        draw.text((MARGIN, height + LINE * (number + 1) + MARGIN), line, fill=INK, font=font)
    return np.asarray(page, np.uint8)


def _fitted(rgb: Pixels) -> Pixels:
    """The picture with its longer side at PANEL_SIDE."""
    height, width = rgb.shape[:2]
    scale = PANEL_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The text in lines that fit `width` pixels."""
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines
