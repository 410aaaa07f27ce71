"""What is registered: uploads and originals into the index, onto the stop list, and to those whom it concerns.

In: pictures that the guard let in. Out: rows. An upload is registered before it is looked up, and an original before
the uploads that match it are sought: so of two that come at the same time at least one sees the other. Doing it again
changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from services.clients.candidates import Candidates, Picture
from services.clients.late import LateQueue, Uploads
from services.clients.stoplist import StopList
from services.core.intake.stoplist import Reason
from services.opening import stop_rules
from services.settings import Settings
from services.stream.guard import Known
from services.stream.late import queue_uploads
from services.stream.vectors import PictureVectors
from services.telemetry import Telemetry

log = structlog.get_logger()


class Registry:
    """Registers pictures. Every method raises `Unavailable` or `Broken` only."""

    def __init__(
        self,
        *,
        candidates: Candidates,
        uploads: Uploads,
        stops: StopList,
        queue: LateQueue,
        settings: Settings,
        telemetry: Telemetry,
        vectors: PictureVectors | None = None,
    ) -> None:
        self._candidates = candidates
        self._uploads = uploads
        self._stops = stops
        self._queue = queue
        self._settings = settings
        self._rules = stop_rules(settings.stop_list)
        self._telemetry = telemetry
        self._vectors = vectors

    async def upload(self, picture: Picture) -> None:
        """An upload: of use to later uploads, and to be judged again when an original comes that it matches."""
        await self._uploads.remember(picture.tenant, picture.original_id, picture.image.sha256)
        await self._candidates.register(picture)
        await self._stopped(picture)

    async def original(self, picture: Picture) -> None:
        """A trusted original, which waits to be prepared from then on (`preparing.py`). The earlier uploads that match
        it are queued to be judged again."""
        await self._candidates.register(picture)
        stopped = await self._stopped(picture)
        await queue_uploads(
            self._queue,
            picture,
            stopped,
            intake=self._settings.intake,
            late=self._settings.late,
            rules=self._rules,
            telemetry=self._telemetry,
        )

    async def embedded(self, picture: Picture, known: Known) -> Known:
        """What is known of a registered picture with its vectors, which were asked for once, to be kept and sought.

        Unchanged where embeddings are off. While the embedder is away the picture is found by PDQ already.
        """
        if self._vectors is None:
            return known
        embedding = await self._vectors.of(known.data)
        await self._vectors.keep(picture, embedding)
        return replace(known, embedding=embedding)

    async def _stopped(self, picture: Picture) -> Reason | None:
        """Why the picture is on the stop list, if it is."""
        was = await self._stops.consider(picture)
        if was is not None:
            self._telemetry.metrics.stopped.labels(was).inc()
            log.info("stop_listed", original_id=picture.original_id, tenant=picture.tenant, reason=was)
        return was
