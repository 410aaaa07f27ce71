"""An embedder without a network: mean colours by cell. It tells crops apart, deterministically and in milliseconds."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from services.core.errors import Rejected, Unavailable
from services.core.intake.regions import REGIONS, Embedding, Pixels, Vectors, crop

CELLS = 6  # a side
DIMENSIONS = 3 * CELLS * CELLS


class TinyEmbedder:
    """`services.clients.embedding.Embedder`. It is away while `away` is set, and refuses the bytes in `refused`."""

    def __init__(self, version: str = "tiny-1") -> None:
        self.name = version
        self.away = False
        self.refused: set[bytes] = set()
        self.asked = 0

    async def version(self) -> str:
        self._answer()
        return self.name

    async def embed(self, image: bytes) -> Embedding:
        self._answer()
        self.asked += 1
        if image in self.refused:
            raise Rejected("corrupt", "the tiny embedder was told to refuse it")
        rgb = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        return Embedding(self.name, np.stack([_vector(crop(rgb, box)) for box in REGIONS]))

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("embedder", "the embedder is away: start it")


def _vector(rgb: Pixels) -> Vectors:
    small = np.asarray(Image.fromarray(rgb).resize((CELLS, CELLS), Image.Resampling.BOX), np.float32).ravel()
    centred = small - small.mean() + 1e-3 * np.arange(DIMENSIONS, dtype=np.float32)  # a flat one has a direction, too
    unit: Vectors = (centred / np.linalg.norm(centred)).astype(np.float32)
    return unit
