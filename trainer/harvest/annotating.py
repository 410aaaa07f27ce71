"""The stage that draws the masks: `trainer.annotation` over pairs of the store, in processes of their own.

In: two digests. Out: the facts of the pair, and its masks as PNG in a folder, which are there before the facts are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from services.core.pixels import encode_png
from trainer.harvest.journal import Facts, Store, replace_file

if TYPE_CHECKING:
    from trainer.annotation import PairAnnotator

FLAGGED = 128  # of 255, from which on a pixel counts to the area
PNG_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Annotating:
    """How pairs are annotated: masks go to `masks`; `flips` averages over mirror images; `side` is in pixels."""

    store: Store
    masks: Path
    annotator: str
    flips: bool
    side: int

    def key(self, forged: str, original: str) -> str:
        """What the journal knows the pair's annotation by, and its files: the content and all that decides the mask."""
        told = f"{forged} {original} {self.annotator} {self.side} {self.flips}"
        return sha256(told.encode()).hexdigest()[:24]


def annotator_name(*, flips: bool, side: int) -> str:
    """`<model>/<version>` of the annotator that would be used. Raises Broken."""
    from trainer.annotation import PairAnnotator

    return PairAnnotator(flips=flips, side=side).annotator


def annotate(how: Annotating, pair: tuple[str, str]) -> Facts:
    """Annotates a forged picture and its original. Raises Rejected, Broken, OSError."""
    from trainer.annotation import LEAST_QES

    forged, original = pair
    key = how.key(forged, original)
    found = _annotator(how.flips, how.side).annotate(*(how.store.path(digest).read_bytes() for digest in pair))
    if found.original_mask is not None:
        replace_file(how.masks / f"{key}-original.png", encode_png(found.original_mask, level=PNG_LEVEL))
    replace_file(how.masks / f"{key}.png", encode_png(found.mask, level=PNG_LEVEL))
    return {
        "key": key,
        "forged": forged,
        "original": original,
        "kind": found.kind,
        "qes": round(found.qes, 6),
        "least_qes": LEAST_QES,
        "score": round(found.score, 6),
        "kept": found.kept,
        "area": round(float((found.mask >= FLAGGED).mean()), 6),
        "inliers": found.inliers,
        "original_mask": found.original_mask is not None,
        "annotator": found.annotator,
    }


@cache
def _annotator(flips: bool, side: int) -> PairAnnotator:
    """This process's annotator."""
    from trainer.annotation import PairAnnotator

    return PairAnnotator(flips=flips, side=side)
