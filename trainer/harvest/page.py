"""The page of a harvest: its figures, and a contact sheet of what was kept.

In: the folder of `dataset.py`. Out: `index.html`, which needs nothing else: pictures are `data:` URIs, and there are no
scripts. What lists say of pictures is text from strangers, and is escaped.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.core.errors import Broken, Rejected
from services.core.pixels import Pixels, open_image, read_mask_png
from trainer.harvest.annotating import FLAGGED
from trainer.harvest.dataset import DROPPED, MANIFEST, STATISTICS, Line, read_lines
from trainer.harvest.rows import FATES
from trainer.harvest.sources import is_url

PAGE = "index.html"
MOST_PICTURED = 240
"""Kept pairs that are shown: about 20 kB each, and a browser has to hold them all."""

MOST_DROPPED = 300
SIDE = 240  # pixels of a picture's longer side on the sheet
JPEG_QUALITY = 80
TINT = (230, 30, 60)
TINT_SHARE = 0.45
OUTLINE = (255, 235, 60)


@dataclass(frozen=True, slots=True)
class Tile:
    """A kept pair on the sheet: `forged` with what was flagged, `original` beside it, both `data:` URIs, or why not."""

    line: Line
    forged: str = ""
    original: str = ""
    problem: str = ""


def write_page(folder: Path, *, most: int = MOST_PICTURED) -> Path:
    """Writes the page, the first `most` kept pairs in pictures. Returns where it is. Raises OSError, ValueError."""
    kept, dropped = read_lines(folder / MANIFEST), read_lines(folder / DROPPED)
    figures: dict[str, Any] = json.loads((folder / STATISTICS).read_bytes())
    environment = Environment(
        loader=PackageLoader("trainer.harvest", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    values = {
        "figures": figures,
        "fates": FATES,
        "kept": len(kept),
        "tiles": _tiles(folder, kept[:most]),
        "dropped": dropped[:MOST_DROPPED],
        "all_dropped": len(dropped),
        "is_url": is_url,
    }
    unfinished = folder / f".{PAGE}"
    environment.get_template("page.html").stream(values).dump(str(unfinished), encoding="utf-8")
    return unfinished.replace(folder / PAGE)


def _tiles(folder: Path, lines: Sequence[Line]) -> Iterator[Tile]:
    for line in lines:
        try:
            forged, original = (
                open_image((folder / line[side]).read_bytes(), max_side=SIDE).rgb for side in ("forged", "original")
            )
            mask, _ = read_mask_png((folder / line["mask"]).read_bytes())
            yield Tile(line, _uri(_marked(forged, mask)), _uri(original))
        except (OSError, Rejected, Broken) as error:
            yield Tile(line, problem=str(error))


def _marked(rgb: Pixels, mask: npt.NDArray[np.uint8]) -> Pixels:
    """`rgb` [H,W,3] uint8 with what a soft mask [h,w] uint8 flags tinted and outlined."""
    size = (rgb.shape[1], rgb.shape[0])
    inside = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) >= FLAGGED
    picture = rgb.copy()
    picture[inside] = (rgb[inside] * (1 - TINT_SHARE) + np.array(TINT) * TINT_SHARE).astype(np.uint8)
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(cv2.drawContours(picture, contours, -1, OUTLINE, 1), np.uint8)


def _uri(rgb: Pixels) -> str:
    _, jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode('ascii')}"
