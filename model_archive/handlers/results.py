"""What the models are asked and what they answer, as values; and both as they travel over HTTP.

In: form fields of a request; or an answer. Out: `SingleRequest` / `PairRequest`; or bytes with status and content type.
A mask travels as an 8-bit grey PNG (0..255 = probability) with one text chunk, keyword `pentimento`, of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from services.core import pixels
from services.core.errors import Rejected
from services.core.evidence import CopiedPart

Kind = Literal["spg", "sdg", "unrelated"]
KEYWORD = "pentimento"


@dataclass(frozen=True, slots=True)
class SingleRequest:
    """An upload alone: the bytes of an image file."""

    upload: bytes


@dataclass(frozen=True, slots=True)
class PairRequest:
    """An upload and the original it may have been made from: the bytes of two image files.

    `homography` is [3,3] float64, original's to upload's pixels at full upright sizes, where the caller knows it.
    """

    upload: bytes
    original: bytes
    homography: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """A model's answer. `mask` [H,W] uint8 (0..255 = probability) has the upload's full upright size.

    `score` is the calibrated probability (at even odds) that the upload was manipulated, `qes` how decisive the mask
    is. The rest is known for pairs only. `inliers` counts the matches that agree, where the model aligned the pair
    itself; `overlap` is the share of the upload that the original covers; `confidence` that of its corners which the
    alignment explains; `homography` [3,3] takes the original's pixels to the upload's, at full sizes; `original_mask`
    [h,w] uint8 marks in the original, at its full size, the object that was taken (`sdg` only).

    `notes` and `copies` are known for uploads alone: which evidence was missing or weak, as slugs of
    `services.core.evidence`, and which parts are there twice.
    """

    model: str
    version: str
    mask: npt.NDArray[np.uint8]
    score: float
    qes: float
    seconds: float
    kind: Kind | None = None
    inliers: int | None = None
    overlap: float | None = None
    confidence: float | None = None
    homography: npt.NDArray[np.float64] | None = None
    original_mask: npt.NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()
    copies: tuple[CopiedPart, ...] = ()
    media_type: ClassVar[str] = "image/png"

    def facts(self) -> dict[str, Any]:
        """Everything but the mask, as JSON values."""
        height, width = self.mask.shape
        facts: dict[str, Any] = {"model": self.model, "version": self.version}
        if self.kind is not None:
            facts["kind"] = self.kind
        numbers = {"score": round(self.score, 6), "qes": round(self.qes, 6), "inliers": self.inliers}
        overlap = None if self.overlap is None else round(self.overlap, 6)
        copies = [asdict(part) for part in self.copies]
        notes = {"notes": list(self.notes), "copies": copies} if self.kind is None else {}
        size = {"width": width, "height": height}
        return facts | numbers | {"overlap": overlap} | size | {"seconds": round(self.seconds, 4)} | notes

    def body(self) -> bytes:
        """The mask as PNG, with the facts in its text chunk."""
        return pixels.encode_png(self.mask, {KEYWORD: json.dumps(self.facts())})


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch has no answer. `rejected`: its input is bad, `code` says how. `broken`: our bug."""

    kind: Literal["rejected", "broken"]
    message: str
    code: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status of the item."""
        return 422 if self.kind == "rejected" else 500

    def body(self) -> bytes:
        """The JSON body of the item."""
        error = {"kind": self.kind, "code": self.code, "message": self.message}
        return json.dumps({"error": {name: value for name, value in error.items() if value is not None}}).encode()


def single_request(fields: Mapping[str, Any]) -> SingleRequest:
    """The request in form fields (`upload`), or in a raw body (`data` or `body`). Raises Rejected."""
    for name in ("upload", "data", "body"):
        if name in fields:
            return SingleRequest(_bytes(fields, name))
    raise Rejected("empty", "the request has no field `upload` and no body")


def pair_request(fields: Mapping[str, Any]) -> PairRequest:
    """The request in the form fields `upload`, `original` and, where given, `homography`. Raises Rejected."""
    missing = [name for name in ("upload", "original") if name not in fields]
    if missing:
        raise Rejected("empty", f"the request has no field {' and no field '.join(f'`{name}`' for name in missing)}")
    given = fields.get("homography")
    return PairRequest(_bytes(fields, "upload"), _bytes(fields, "original"), None if given is None else _matrix(given))


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    value = fields[name]
    if not isinstance(value, bytes | bytearray):
        raise Rejected("unsupported_type", f"the field `{name}` must hold the bytes of an image file")
    return bytes(value)


def _matrix(given: Any) -> npt.NDArray[np.float64]:
    try:
        values = json.loads(given) if isinstance(given, bytes | bytearray | str) else given
        matrix = np.array(values, dtype=np.float64).reshape(3, 3)
    except (ValueError, TypeError) as error:
        raise Rejected("corrupt", f"`homography` must be a JSON list of 9 numbers: {error}") from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise Rejected("corrupt", "`homography` must be finite and invertible")
    return matrix
