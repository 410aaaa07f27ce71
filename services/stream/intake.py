"""Intake: an upload in, an accepted and fingerprinted image with ranked candidate originals out; or its rejection.

guard -> fingerprint -> lookup. A rejected upload gets its verdict here, through the ledger like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from services.clients.candidates import Candidates, Picture
from services.clients.ledger import Ledger
from services.core.errors import Rejected
from services.core.events import ImageIntaken, ImageUploaded, OriginalRegistered, VerdictReached
from services.core.judge.verdict import rejected
from services.core.policy import Policy
from services.stream.guard import Guard, Known
from services.stream.lookup import Lookup
from services.stream.timings import Timings
from services.telemetry import Telemetry


class Intake:
    """Handles `image-uploads` and `original-images`."""

    def __init__(
        self,
        *,
        guard: Guard,
        lookup: Lookup,
        candidates: Candidates,
        ledger: Ledger,
        policy: Policy,
        register_uploads: bool,
        telemetry: Telemetry,
        now: Callable[[], datetime],
    ) -> None:
        self._guard = guard
        self._lookup = lookup
        self._candidates = candidates
        self._ledger = ledger
        self._policy = policy
        self._register_uploads = register_uploads
        self._telemetry = telemetry
        self._now = now

    async def upload(self, upload: ImageUploaded) -> Sequence[ImageIntaken | VerdictReached]:
        """The accepted upload, or its rejection as a verdict. Raises Unavailable while a part is away."""
        timings = Timings(self._telemetry)
        try:
            known = await self._guard.accept(upload.image, upload.sha256, timings)
            with timings.stage("lookup"):
                candidates = await self._lookup.find(upload.tenant, known)
        except Rejected as why:
            verdict = rejected(upload, why, self._policy, now=self._now())
            return (await self._ledger.claim(verdict),)
        index_version = await self._candidates.index_version()
        if self._register_uploads:
            await self._candidates.register(_picture(upload, known))
        intaken = ImageIntaken(
            upload_id=upload.upload_id,
            tenant=upload.tenant,
            uploaded_at=upload.uploaded_at,
            filename=upload.filename,
            image=known.image,
            fingerprint=known.fingerprint,
            candidates=candidates,
            notes=known.notes,
            index_version=index_version,
            timings_ms=timings.milliseconds,
        )
        return (intaken,)

    async def original(self, original: OriginalRegistered) -> Sequence[ImageIntaken]:
        """Registers a trusted original. Raises Rejected where it is no usable picture."""
        known = await self._guard.accept(original.image, None, Timings(self._telemetry))
        await self._candidates.register(_picture(original, known))
        return ()


def _picture(event: ImageUploaded | OriginalRegistered, known: Known) -> Picture:
    """What the index keeps: originals are trusted, uploads are not."""
    if isinstance(event, OriginalRegistered):
        original_id, source, at, trusted = event.original_id, event.source, event.registered_at, True
    else:
        original_id, source, at, trusted = event.upload_id, "upload", event.uploaded_at, False
    return Picture(
        tenant=event.tenant,
        original_id=original_id,
        image=known.image,
        fingerprint=known.fingerprint,
        trusted=trusted,
        source=source,
        registered_at=at,
    )
