"""Judge: an accepted upload in, its one verdict out.

route -> constrained and/or unconstrained -> verdict. An upload that is to be judged again (`causes.py`) comes again
and has its verdict revised, once for a cause. The verdict is written to the ledger before it is published, and
what the ledger holds is published: a redelivered message repeats the first verdict, whatever the models say by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from services.clients.ledger import Ledger
from services.clients.models import Localisation, Models
from services.clients.objects import Objects
from services.core.errors import Broken, Rejected
from services.core.events import ImageIntaken, ModelVersion, VerdictReached
from services.core.intake.keys import mask_key
from services.core.judge.mask import describe, to_full_resolution
from services.core.judge.route import Alone, Compare, Identical, Route, route
from services.core.judge.verdict import Finding, decide, judged, needs_unconstrained, rejected, reused
from services.core.pixels import encode_png, read_mask_png
from services.core.policy import Policy
from services.stream.causes import Cause, Causes
from services.stream.timings import Timings
from services.telemetry import Telemetry

log = structlog.get_logger()


class Judge:
    """Handles `image-intakes`."""

    def __init__(
        self,
        *,
        objects: Objects,
        models: Models,
        ledger: Ledger,
        causes: Causes,
        policy: Policy,
        max_bytes: int,
        telemetry: Telemetry,
        now: Callable[[], datetime],
    ) -> None:
        self._objects = objects
        self._models = models
        self._ledger = ledger
        self._causes = causes
        self._policy = policy
        self._max_bytes = max_bytes
        self._telemetry = telemetry
        self._now = now

    async def intaken(self, intake: ImageIntaken) -> Sequence[VerdictReached]:
        """The verdict of an accepted upload, as the ledger holds it; none where it comes again and its verdict stays.

        Raises Unavailable while a part is away.
        """
        if (cause := self._causes.of(intake)) is not None:
            return await self._again(intake, cause)
        try:
            verdict = await self._judged(intake, route(intake, self._policy))
        except Rejected as why:
            verdict = rejected(intake, why, self._policy, now=self._now())
        return (await self._ledger.claim(verdict),)

    async def _again(self, intake: ImageIntaken, cause: Cause) -> Sequence[VerdictReached]:
        """The revision that a cause leads to, if it does. A redelivered message repeats it, byte for byte."""
        verdict = await self._ledger.caused(intake.tenant, intake.upload_id, cause.id)
        if verdict is None:
            latest = await self._ledger.latest(intake.tenant, intake.upload_id)
            if latest is None:
                raise Broken(f"upload {intake.upload_id!r} comes again for {cause.id} and has no verdict")
            way = route(intake, self._policy)
            if why := await cause.why_not(latest, way, self._models.versions):
                await cause.settle("skipped", reason=why)
                return ()
            try:
                fresh = await self._judged(intake, way)
            except Rejected as error:  # its bytes have gone since: no reason to take back what was found in them
                await cause.settle("skipped", reason=error.code)
                return ()
            revised = cause.revised(latest, fresh, way)
            if revised is None:
                await cause.settle("unchanged", verdict=fresh)
                return ()
            # A moderator may decide meanwhile: then `over` does not fit any more, and the next try leaves it.
            verdict = await self._ledger.claim_revision(revised, cause.id, over=latest.revision)
        await cause.settle("revised", verdict=verdict)
        return (verdict,)

    async def _judged(self, intake: ImageIntaken, way: Route) -> VerdictReached:
        """What is found of the upload now, or was of its duplicate. Raises Rejected where it cannot be analysed."""
        timings = Timings(self._telemetry)
        return await self._earlier(intake, way, timings) or await self._analysed(intake, way, timings)

    async def _earlier(self, intake: ImageIntaken, way: Route, timings: Timings) -> VerdictReached | None:
        """The verdict of an exact duplicate, where the same models and policy judged it against the same original."""
        if isinstance(way, Identical):
            return None
        candidate = way.candidate.sha256 if isinstance(way, Compare) else None
        with timings.stage("route"):
            earlier = await self._ledger.reusable(
                intake.tenant,
                intake.image.sha256,
                models=await self._models.versions(),
                policy_version=self._policy.version,
                candidate_sha256=candidate,
            )
        return reused(intake, earlier, now=self._now(), timings_ms=timings.milliseconds) if earlier else None

    async def _analysed(self, intake: ImageIntaken, way: Route, timings: Timings) -> VerdictReached:
        """Asks the models that the route needs, and decides."""
        constrained: Finding | None = None
        unconstrained: Finding | None = None
        if not isinstance(way, Identical):
            with timings.stage("fetch"):
                upload = await self._objects.get(intake.image.object_key, self._max_bytes)
            if isinstance(way, Compare):
                with timings.stage("constrained"):
                    constrained = await self._constrained(intake, way, upload)
                if constrained is None:
                    way = Alone()
            if needs_unconstrained(way, constrained):
                with timings.stage("unconstrained"):
                    unconstrained = await self._unconstrained(intake, upload)
        outcome = decide(way, constrained, unconstrained, self._policy)
        models = _took_part(constrained, unconstrained)
        return judged(intake, outcome, models, self._policy, now=self._now(), timings_ms=timings.milliseconds)

    async def _constrained(self, intake: ImageIntaken, way: Compare, upload: bytes) -> Finding | None:
        """The pair's finding; None where the original has gone from the store, which is not the upload's fault."""
        try:
            original = await self._objects.get(way.candidate.object_key, self._max_bytes)
        except Rejected as why:
            log.warning(
                "original_missing", upload_id=intake.upload_id, original_id=way.candidate.original_id, why=str(why)
            )
            return None
        answer = await self._models.constrained(upload, original, way.candidate.homography)
        return await self._finding(intake, answer)

    async def _unconstrained(self, intake: ImageIntaken, upload: bytes) -> Finding:
        return await self._finding(intake, await self._models.unconstrained(upload))

    async def _finding(self, intake: ImageIntaken, answer: Localisation) -> Finding:
        """Brings the mask to the upload's size, stores it as PNG under its content hash, and measures it."""
        image = intake.image

        def measure() -> tuple[bytes, str, Finding]:
            grey, _ = read_mask_png(answer.png)
            full = to_full_resolution(grey, image.width, image.height)
            png = answer.png if full is grey else encode_png(full)
            key = mask_key(png)
            mask = describe(full, threshold=self._policy.mask_threshold, qes=answer.qes, object_key=key)
            finding = Finding(answer.model, answer.score, mask, answer.kind, answer.notes, answer.copies)
            return png, key, finding

        png, key, finding = await asyncio.to_thread(measure)
        await self._objects.put(key, png, "image/png")
        return finding


def _took_part(*findings: Finding | None) -> tuple[ModelVersion, ...]:
    return tuple(finding.model for finding in findings if finding is not None)
