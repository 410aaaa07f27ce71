"""Learn: verdicts into the projection that people look at, and the hard ones to the trainer.

project -> review case -> hardcase. A moderator's decision becomes the next revision of the verdict, once per decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from services.clients.cases import HardCases, Verdicts
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.review_cases import ReviewCases
from services.core.errors import Broken, Rejected
from services.core.events import Event, HardCaseFound, Mask, ReviewDecided, VerdictReached
from services.core.judge.review import drawn, overturned, revised
from services.core.learn.hardcase import hard_case
from services.core.policy import Policy
from services.core.review.cases import need
from services.core.review.mask import MASK_BYTES

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Told:
    """Who counts what is new: verdicts, hard cases."""

    verdict: Callable[[VerdictReached], None]
    hard_case: Callable[[HardCaseFound], None]


class Learn:
    """Handles `image-verdicts` and `review-decisions`."""

    def __init__(
        self,
        *,
        verdicts: Verdicts,
        hard_cases: HardCases,
        reviews: ReviewCases,
        ledger: Ledger,
        objects: Objects,
        policy: Policy,
        now: Callable[[], datetime],
        told: Told,
    ) -> None:
        self._verdicts = verdicts
        self._hard_cases = hard_cases
        self._reviews = reviews
        self._ledger = ledger
        self._objects = objects
        self._policy = policy
        self._now = now
        self._told = told

    async def verdict(self, verdict: VerdictReached) -> Sequence[Event]:
        """Projects a verdict, and puts it into a review case where a person has to look.

        What the ledger holds of the same revision goes before the message: it differs where a picture was erased since,
        and where a verdict was reached anew after a restore, while Kafka still has the one from before. Returns its
        hard case where there is one that was not yet known.
        """
        held = await self._ledger.latest(verdict.tenant, verdict.upload_id, below=verdict.revision + 1)
        verdict = held if held is not None and held.revision == verdict.revision else verdict
        if await self._verdicts.project(verdict):
            self._told.verdict(verdict)
        await self._reviews.follow(verdict, need(verdict, self._policy), now=self._now())
        case = hard_case(verdict, self._policy, now=self._now())
        return await self._published(case)

    async def review(self, review: ReviewDecided) -> Sequence[Event]:
        """Records a decision and revises the verdict it is about.

        Raises Broken where the upload is unknown: the ledger is written before a verdict is published, so nobody can
        have seen a verdict that the ledger does not hold.
        """
        verdict = await self._ledger.latest(review.tenant, review.upload_id)
        if verdict is None:
            raise Broken(f"review {review.decision_id!r} is about upload {review.upload_id!r}, which has no verdict")
        await self._verdicts.record_review(review)
        changed = revised(verdict, review, now=self._now(), mask=await self._drawn(verdict, review))
        if changed is verdict:
            return ()
        stored = await self._ledger.claim_revision(changed, cause=review.event_id())
        # What the moderator contradicted; the newest revision is theirs by now, if this is a second try.
        before = verdict
        if stored.revision != verdict.revision + 1:
            before = await self._ledger.latest(review.tenant, review.upload_id, below=stored.revision) or verdict
        case = hard_case(before, self._policy, now=self._now(), overturned=overturned(before, review))
        return (stored, *await self._published(case))

    async def _drawn(self, verdict: VerdictReached, review: ReviewDecided) -> Mask | None:
        """The mask that the moderator drew; None where there is none, or none any more (an erasure)."""
        key, image = review.corrected_mask_key, verdict.image
        if key is None or image is None:
            return None
        try:
            png = await self._objects.get(key, MASK_BYTES)
        except Rejected as gone:
            log.warning("no_mask", upload_id=review.upload_id, code=gone.code)
            return None
        threshold = self._policy.mask_threshold
        return await asyncio.to_thread(partial(drawn, png, image, object_key=key, threshold=threshold))

    async def _published(self, case: HardCaseFound | None) -> Sequence[Event]:
        if case is not None and await self._hard_cases.add(case):
            self._told.hard_case(case)
            return (case,)
        return ()
