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
from services.stream.lookup import STOP_LISTED, Lookup
from services.stream.registry import Registry
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
        registry: Registry,
        telemetry: Telemetry,
        now: Callable[[], datetime],
    ) -> None:
        self._guard = guard
        self._lookup = lookup
        self._candidates = candidates
        self._ledger = ledger
        self._policy = policy
        self._registry = registry
        self._telemetry = telemetry
        self._now = now

    async def upload(self, upload: ImageUploaded) -> Sequence[ImageIntaken | VerdictReached]:
        """The accepted upload, or its rejection as a verdict. Raises Unavailable while a part is away."""
        timings = Timings(self._telemetry)
        picture: Picture | None = None
        try:
            known = await self._guard.accept(upload.image, upload.sha256, timings)
            picture = _picture(upload, known)
            with timings.stage("lookup"):
                await self._registry.upload(picture)
                known = await self._registry.embedded(picture, known)
                found = await self._lookup.search(upload.tenant, known)
        except Rejected as why:
            if picture is not None:
                await self._candidates.withdraw(picture)
            verdict = rejected(upload, why, self._policy, now=self._now())
            return (await self._ledger.claim(verdict),)
        if STOP_LISTED in found.notes:
            self._telemetry.metrics.stop_skipped.inc()
        return (await self._lookup.intaken(upload, known, found, timings),)

    async def original(self, original: OriginalRegistered) -> Sequence[ImageIntaken]:
        """Registers a trusted original, to be prepared later. Raises Rejected where it is no usable picture."""
        known = await self._guard.accept(original.image, None, Timings(self._telemetry))
        picture = _picture(original, known)
        await self._registry.original(picture)
        await self._registry.embedded(picture, known)
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
