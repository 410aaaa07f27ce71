"""What samples are like: numbers, and one page with pictures of them.

In: samples of the manifest or of a version, and examples that were read from its shards. Out: JSON values; one HTML
page that needs nothing else: pictures are `data:` URIs, the edit is outlined, and there are no scripts.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.core.learn.outlier import training_ranges
from services.core.learn.samples import Sample, counts
from trainer.samples.reading import Example
from trainer.tables import AREAS, bin_name

SIDE = 240
"""Pixels of the longer side of a picture on the page."""

OUTLINE = (255, 40, 90)
JPEG_QUALITY = 82


def statistics(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts of the samples that are in use, their areas and QES, why others are set aside, and `training`: the ranges
    that a policy takes to know outliers by, None where there are too few samples."""
    used = [sample for sample in samples if sample.set_aside is None]
    edited = [sample for sample in used if sample.of.kind != "authentic"]
    areas = Counter(bin_name(AREAS, sample.of.area) for sample in edited)
    marked = [sample.of.qes for sample in edited if sample.of.qes is not None]
    ranges = training_ranges(sample.of.image for sample in used)
    return counts(used) | {
        "areas": {name: areas[name] for _, _, name in AREAS},
        "mean_qes": round(float(np.mean(marked)), 4) if marked else None,
        "formats": dict(sorted(Counter(sample.of.image.format for sample in used).items())),
        "set_aside": dict(sorted(Counter(each.set_aside for each in samples if each.set_aside is not None).items())),
        "training": None if ranges is None else ranges.model_dump(),
    }


def page(title: str, numbers: Mapping[str, Any], examples: Iterable[Example]) -> str:
    """The page about a version: its numbers, and these examples in pictures."""
    environment = Environment(
        loader=PackageLoader("trainer.samples", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    cells = [{"picture": _picture(example), "facts": example.facts} for example in examples]
    return environment.get_template("sheet.html").render(title=title, numbers=_flat(numbers), cells=cells)


def outlined(example: Example) -> np.ndarray:
    """The picture [h,w,3] uint8, its longer side `SIDE` at most, with the marked part outlined."""
    height, width = example.mask.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(example.picture, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(example.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    edges, _ = cv2.findContours((mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(small, edges, -1, OUTLINE, 1))


def _picture(example: Example) -> str:
    _, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(outlined(example), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def _flat(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Numbers as labels with text; a mapping becomes one line."""
    return [
        (name.replace("_", " "), ", ".join(f"{key} {number}" for key, number in value.items()) or "none")
        if isinstance(value, Mapping)
        else (name.replace("_", " "), "none" if value is None else str(value))
        for name, value in numbers.items()
        if name != "training"
    ]
