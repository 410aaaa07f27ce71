"""A picture and its original to what a network can learn from: a mask, and whether it is decisive enough to be kept.

In: the bytes of two image files. Out: an `Annotation`. This is CAAAv2 as the paper uses it to annotate: averaged over
mirror images, and kept only where QES exceeds one half (arXiv 2508.20987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_archive.handlers.analysis import Model, constrained_model
from model_archive.handlers.results import ItemError, Kind, PairRequest
from services.core.errors import Broken, Rejected

LEAST_QES = 0.5
"""QES that an annotation must exceed to be kept."""

SIDE = 1024
"""Pixels of the longer side at which pairs are annotated."""

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What the pair model says of a pair: `mask` [H,W] uint8 (0..255 = probability) at the upload's full upright size,
    `original_mask` [h,w] uint8 at the original's where an object was taken from it (`sdg`); `qes` and `score` 0..1;
    `annotator` is `<model>/<version>`."""

    kind: Kind
    mask: Grey
    original_mask: Grey | None
    qes: float
    score: float
    inliers: int | None
    annotator: str

    @property
    def kept(self) -> bool:
        """Whether it is good enough to learn from: the two belong together, and QES exceeds `LEAST_QES`."""
        return self.kind != "unrelated" and self.qes > LEAST_QES


class PairAnnotator:
    """The pair model, loaded. `flips` averages over mirror images, three looks for one. Raises Broken."""

    def __init__(self, *, flips: bool = True, side: int = SIDE) -> None:
        self._model: Model[PairRequest] = constrained_model(flips=flips, max_side=side)

    @property
    def annotator(self) -> str:
        """`<model>/<version>`, as it stands with every annotation."""
        return f"{self._model.name}/{self._model.version}"

    def annotate(self, upload: bytes, original: bytes) -> Annotation:
        """Compares the two image files. Raises Rejected where one cannot be opened, Broken where the model fails."""
        found = self._model.analyse([PairRequest(upload, original)])[0]
        if isinstance(found, ItemError):
            if found.kind == "rejected" and found.code is not None:
                raise Rejected(found.code, found.message)
            raise Broken(found.message)
        taken = found.original_mask if found.kind == "sdg" else None
        kind: Kind = found.kind or "unrelated"
        return Annotation(kind, found.mask, taken, found.qes, found.score, found.inliers, self.annotator)
