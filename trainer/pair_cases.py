"""The pairs that the constrained path is measured on, as files with what is known of them.

In: folders of real forgeries with a `manifest.csv`, and photographs to generate pairs from. Out: `PairItem`s. Real
pairs are only ever measured; generated ones come from photographs that neither fit nor calibration has seen (`test`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from services.core.pixels import encode_png, open_image
from trainer.sets import cases, jpeg_bytes, read_mask
from trainer.synthesis import pairs
from trainer.synthesis.photos import PhotoPool

COPIES = ("JPEG 90", "JPEG 50", "half size", "crop", "colour")
"""What is done to unedited copies of the real sets' originals, in turn."""

COPIES_EACH = 2


@dataclass(frozen=True, slots=True)
class PairItem:
    """A pair as two image files, and the truth: `mask` [H,W] bool of the upload, empty for unedited copies;
    `original_mask` [h,w] bool where an object was taken; `kind` None where it was never said; `edit` and `change` name
    what was done; `data` is the set it belongs to."""

    name: str
    data: str
    upload: bytes
    original: bytes
    mask: npt.NDArray[np.bool_]
    kind: pairs.Kind | None
    edit: str
    change: str
    original_mask: npt.NDArray[np.bool_] | None = None

    @property
    def unedited(self) -> bool:
        """Whether the upload is a plain copy of its original."""
        return self.kind == "spg" and not self.mask.any()


def real_pairs(folder: Path) -> Iterator[PairItem]:
    """The forgeries of a set whose original is known, then unedited copies of its originals."""
    originals: dict[Path, bytes] = {}
    for case in cases(folder):
        if case.original is None:
            continue
        data = originals.setdefault(case.original, case.original.read_bytes())
        truth = read_mask(case.mask)
        yield PairItem(case.forged.stem, folder.name, case.forged.read_bytes(), data, truth, None, "real", "real")
    for place, (path, data) in enumerate(sorted(originals.items())):
        for turn in range(COPIES_EACH):
            change = COPIES[(place * COPIES_EACH + turn) % len(COPIES)]
            upload = copied(data, change, seed=place)
            height, width = open_image(upload).rgb.shape[:2]
            nothing = np.zeros((height, width), bool)
            yield PairItem(
                f"{path.stem} {change}", f"{folder.name} copies", upload, data, nothing, "spg", "none", change
            )


def generated_pairs(pool: PhotoPool, seed: int, counts: dict[pairs.Kind, int]) -> Iterator[PairItem]:
    """So many pairs of each kind, the same for the same seed."""
    for kind, count in counts.items():
        for index in range(count):
            case = pairs.case(pool, seed, index, kind=kind)
            yield PairItem(
                f"{kind}-{index}",
                "generated",
                encode_png(case.upload),
                encode_png(case.original),
                case.mask,
                kind,
                case.edit,
                case.change,
                case.original_mask if kind == "sdg" else None,
            )


def copied(data: bytes, change: str, *, seed: int) -> bytes:
    """An unedited copy of an image file as JPEG, after one of `COPIES`."""
    picture = open_image(data).rgb
    height, width = picture.shape[:2]
    rng = np.random.default_rng(seed)
    quality = {"JPEG 90": 90, "JPEG 50": 50}.get(change, 85)
    match change:
        case "half size":
            picture = np.asarray(cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
        case "crop":
            left, top = (int(side * rng.uniform(0.03, 0.2)) for side in (width, height))
            right, bottom = (int(side * rng.uniform(0.8, 0.97)) for side in (width, height))
            picture = np.ascontiguousarray(picture[top:bottom, left:right])
        case "colour":
            gains = np.exp(rng.normal(0.05, 0.15, 3))
            levels = 255.0 * (picture / 255.0) ** float(np.exp(rng.normal(0, 0.2))) * gains
            grey = levels.mean(2, keepdims=True)
            picture = np.clip(grey + (levels - grey) * rng.uniform(0.5, 1.4), 0, 255).astype(np.uint8)
    return jpeg_bytes(picture, quality)


def worst(names: Sequence[str], values: Sequence[float], count: int = 10) -> list[tuple[str, float]]:
    """The `count` smallest values with their names, smallest first."""
    ranked = sorted(zip(names, values, strict=True), key=lambda each: each[1])
    return ranked[:count]
