"""The pictures of a pair for the annotator's report: what was compared, where it differs, what was marked.

In: a line of results.jsonl, its masks, and the two files. Out: `Figure`s, JPEGs as `data:` URIs. Nothing is aligned
anew: the line has the homography.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from services.cli.annotator import Setup
from services.cli.batch import read_file
from services.cli.overlay import marked
from services.cli.results import mask_path
from services.core.alignment import Matrix, coverage, resize_map, warp
from services.core.errors import Broken
from services.core.judge.mask import flagged
from services.core.pixels import Picture, Pixels, open_image, read_mask_png

SIDE = 480
"""Pixels of a picture's longer side on the page."""

COMPARED_SIDE = 1600  # both are compared at this size, and reduced then: reduced first, they would differ by that
AMPLIFIED = 4  # times that a difference is shown: what an edit leaves is often faint
JPEG_QUALITY = 84
UNCOVERED = (128, 128, 128)

Valid = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the page: `src` is a `data:` URI, `width` and `height` its pixels."""

    title: str
    alt: str
    src: str
    width: int
    height: int


def figures(line: Mapping[str, Any], folder: Path, setup: Setup) -> tuple[Figure, ...]:
    """The pictures of a pair that has a result, of which `folder` holds the masks.

    Raises Rejected, Broken and OSError where a file has changed or gone since.
    """
    upload, original = (
        open_image(read_file(setup.folder / line[name], setup.max_bytes), max_side=COMPARED_SIDE)
        for name in ("forged", "original")
    )
    uploaded = _figure("Upload", f"{line['forged']} as it was uploaded", upload.rgb)
    if line["kind"] == "unrelated":
        return uploaded, _original(line, original, None)
    threshold = setup.policy.mask_threshold
    mask = _flagged(mask_path(folder, line["forged"]), upload.rgb, threshold)
    where = line.get("original_mask")
    taken = None if where is None else _flagged(folder / where, original.rgb, threshold)
    title = "Flagged" if mask.any() else "Nothing flagged"
    flags = _figure(title, f"{line['forged']} with what was flagged", upload.rgb, mask)
    return uploaded, flags, _original(line, original, taken), *_compared(line, upload, original, mask)


def _original(line: Mapping[str, Any], original: Picture, taken: Pixels | None) -> Figure:
    """The original, with the object outlined where one was taken from it (`taken` [H,W] uint8 0/1)."""
    if taken is None:
        return _figure("Original", f"the original {line['original']}", original.rgb)
    return _figure("Original, the object outlined", f"{line['original']}, the object outlined", original.rgb, taken)


def _compared(line: Mapping[str, Any], upload: Picture, original: Picture, mask: Pixels) -> tuple[Figure, ...]:
    """The original in the upload's frame, and how the two differ; nothing where it could not be laid there."""
    matrix = homography(line)
    if matrix is None:
        return ()
    laid, valid = aligned(original, upload, matrix)
    same = valid & (mask > 0) if line["kind"] == "sdg" else valid
    return (
        _figure("Original, aligned", f"{line['original']} in the frame of {line['forged']}", laid),
        _figure("Difference", f"how {line['forged']} differs from it", difference(laid, upload.rgb, valid, same)),
    )


def homography(line: Mapping[str, Any]) -> Matrix | None:
    """[3,3] float64, original's pixels to upload's, at full sizes; None where the line has none.

    The same file twice needed no alignment: its map is the identity.
    """
    numbers = line.get("homography")
    if numbers is None:
        return np.eye(3) if line["kind"] == "spg" else None
    matrix = np.array(numbers, np.float64)
    if matrix.shape != (9,) or not np.isfinite(matrix).all():
        raise Broken(f"the line of {line['forged']} has a homography that is none")
    return matrix.reshape(3, 3)


def aligned(original: Picture, upload: Picture, matrix: Matrix) -> tuple[Pixels, Valid]:
    """The original laid into the upload's frame as opened, [H,W,3] uint8, and where it has pixels, [H,W] bool.

    `matrix` [3,3] is between the full pictures, of which the two may be reduced copies.
    """
    enlarge = resize_map(_size(original.rgb), (original.width, original.height))
    reduce = resize_map((upload.width, upload.height), _size(upload.rgb))
    mapping, frame = reduce @ matrix @ enlarge, _size(upload.rgb)
    return warp(original.rgb, mapping, frame), coverage(original.rgb, mapping, frame)


def difference(laid: Pixels, upload: Pixels, valid: Valid, same: Valid) -> Pixels:
    """How `upload` differs from `laid`, both [H,W,3] uint8, after their colours were matched by the places `same`
    [H,W]: [H,W,3] uint8, dark where nothing does, bright where much does, grey where there is no original."""
    from model_archive.preprocess import photometric

    matched = photometric(laid, upload, same)
    gap = np.abs(matched - upload.astype(np.float32)).max(axis=2) * AMPLIFIED
    heat = cv2.applyColorMap(np.clip(gap, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].copy()
    heat[~valid] = UNCOVERED
    return np.asarray(heat, np.uint8)


def _flagged(file: Path, picture: Pixels, threshold: float) -> Pixels:
    """What a mask flags, at the size of a picture [H,W,3]: [H,W] uint8 0/1."""
    soft, _ = read_mask_png(file.read_bytes())
    return flagged(np.asarray(cv2.resize(soft, _size(picture), interpolation=cv2.INTER_AREA), np.uint8), threshold)


def _figure(title: str, alt: str, rgb: Pixels, mask: Pixels | None = None) -> Figure:
    """A picture [H,W,3] uint8, reduced, with what a mask [H,W] uint8 0/1 flags marked on it."""
    width, height = _size(rgb)
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    if mask is not None:
        share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        shown = marked(shown, (share >= 0.5).astype(np.uint8))
    done, jpeg = cv2.imencode(".jpg", shown[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise Broken(f"{alt} could not be written as JPEG")
    return Figure(title, alt, f"data:image/jpeg;base64,{b64encode(jpeg.tobytes()).decode('ascii')}", *size)


def _size(picture: Pixels) -> tuple[int, int]:
    """(width, height) of pixels [H,W,...]."""
    return int(picture.shape[1]), int(picture.shape[0])
