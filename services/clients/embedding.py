"""The embedder's client, as the rest of the code sees it: a picture in, vectors of its regions out."""

from __future__ import annotations

from typing import Protocol

from services.core.intake.regions import Embedding


class Embedder(Protocol):
    """Who makes vectors. Raises Rejected for a picture that cannot be opened, Unavailable while it is away."""

    async def embed(self, image: bytes) -> Embedding:
        """The vectors of all regions of a picture."""
        ...

    async def version(self) -> str:
        """`<name>-<version>` of what is served now, the `embedder` of its embeddings."""
        ...
