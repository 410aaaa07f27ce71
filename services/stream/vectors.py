"""Vectors of pictures, the shell around them: asked of the embedder, kept in the index, sought in it.

In: the bytes of pictures that the guard let in. Out: rows, and registered pictures with a part that looks like a part
of an upload. While the embedder is away everything here raises Unavailable, as it does without the database: an upload
that was not sought by embeddings must not pass for one that was.
"""

from __future__ import annotations

import structlog

from services.clients.candidates import Picture
from services.clients.embedders import Embedders
from services.clients.embedding import Embedder
from services.clients.embeddings import Embedded, Embeddings, Similar
from services.core.errors import Rejected
from services.core.intake.regions import Embedding
from services.settings import EmbedderSettings

log = structlog.get_logger()


class PictureVectors:
    """The second stage of lookup. Every method raises `Unavailable` or `Broken` only."""

    def __init__(
        self, *, embedder: Embedder, embedders: Embedders, embeddings: Embeddings, settings: EmbedderSettings
    ) -> None:
        self._embedder = embedder
        self._embedders = embedders
        self._embeddings = embeddings
        self._settings = settings
        self._prepared: set[str] = set()

    @property
    def places(self) -> int:
        """How many candidates are kept for what only vectors find."""
        return self._settings.places

    async def of(self, data: bytes) -> Embedding | None:
        """A picture's vectors; None where the embedder cannot open what the guard could, which is logged."""
        try:
            return await self._embedder.embed(data)
        except Rejected as why:
            log.warning("not_embedded", code=why.code, why=str(why))
            return None

    async def keep(self, picture: Picture, embedding: Embedding | None) -> None:
        """Make a registered picture findable by its parts: originals, and earlier uploads where the settings say so."""
        if embedding is None or not (picture.trusted or self._settings.register_uploads):
            return
        if embedding.embedder not in self._prepared:
            await self._embedders.prepare(embedding.embedder, embedding.vectors.shape[1])
            self._prepared.add(embedding.embedder)
        await self._embeddings.add([Embedded.of(picture, embedding)])

    async def near(self, tenant: str, embedding: Embedding, *, but: str, limit: int) -> list[Similar]:
        """At most `limit` pictures of the tenant, most alike first; not an earlier upload of `but`."""
        return await self._embeddings.nearest(
            tenant,
            embedding,
            limit=limit,
            most_far=1.0 - self._settings.min_similarity,
            trusted=None if self._settings.register_uploads else True,
            but=but,
        )

    async def complete(self, embedding: Embedding) -> bool:
        """Whether every original had vectors of this embedder when it was activated."""
        there = await self._embedders.find(embedding.embedder)
        return there is not None and there.state == "active"
