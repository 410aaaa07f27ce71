"""Hard cases annotated, one after the other: what a moderator said, else what the pair model marks.

In: open cases in PostgreSQL, bytes in the object store. Out: masks by the hash of their content, then one row a case.
Killed at any moment, the next run repeats at most the case that was in work, with the same result: a mask is written
before the row that names it, and writing it twice is writing it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from services.clients.annotations import AnnotatedCase, Annotations, OpenCase
from services.clients.objects import Objects
from services.core.errors import Broken, Rejected
from services.core.events import Decision
from services.core.intake.keys import mask_key
from services.core.judge.mask import Grey, flagged, to_full_resolution
from services.core.learn.qes import qes
from services.core.pixels import encode_png, read_mask_png
from trainer.annotate.originals import Original, Originals
from trainer.annotation import Annotation

MARKED = 0.5
"""Probability at or above which a pixel counts as marked."""


PAGE = 50
"""Cases that are looked up at once: what becomes more urgent meanwhile waits for so many at most."""


class Annotator(Protocol):
    """Compares a picture with its original, see `annotation.PairAnnotator`."""

    def annotate(self, upload: bytes, original: bytes) -> Annotation:
        """Raises Rejected where one of the two cannot be opened, Broken where the model fails."""
        ...


class Work:
    """Annotates the cases of a tenant. `version` is the annotator's, with everything that its masks depend on."""

    def __init__(
        self,
        *,
        annotations: Annotations,
        objects: Objects,
        originals: Originals,
        annotator: Annotator,
        version: str,
        max_bytes: int,
    ) -> None:
        self._annotations = annotations
        self._objects = objects
        self._originals = originals
        self._annotator = annotator
        self._version = version
        self._max_bytes = max_bytes

    async def run(self, tenant: str, *, limit: int | None = None) -> AsyncIterator[tuple[OpenCase, AnnotatedCase]]:
        """Cases as they are done, most urgent first, `limit` at most. Raises Unavailable, with nothing half done."""
        done = 0
        while limit is None or done < limit:
            at_most = PAGE if limit is None else min(PAGE, limit - done)
            cases = await self._annotations.open(tenant, self._version, limit=at_most)
            for case in cases:
                found = await self._one(case)
                await self._annotations.record(case, self._version, found)
                yield case, found
            done += len(cases)
            if not cases:
                return

    async def _one(self, case: OpenCase) -> AnnotatedCase:
        try:
            return await self._annotated(case)
        except (Rejected, Broken) as error:  # this case's fault, or a bug with just this case: the others go on
            return AnnotatedCase("failed", "machine" if case.review is None else "moderator", error=str(error))

    async def _annotated(self, case: OpenCase) -> AnnotatedCase:
        review = case.review
        if review is not None and review.decision is Decision.NO_EVIDENCE:
            return AnnotatedCase("kept", "moderator", "authentic", area=0.0)
        pair = await self._pair(case)
        if review is not None and review.corrected_mask_key is not None:
            return await self._drawn(case, review.corrected_mask_key, pair)
        if pair is None:
            return AnnotatedCase("no_original", "machine")
        original, found = pair
        said = AnnotatedCase("dropped", "machine", found.kind, _area(found.mask), found.qes, original.sha256)
        return await self._kept(said, found.mask, found) if found.kept else said

    async def _pair(self, case: OpenCase) -> tuple[Original, Annotation] | None:
        """The case's original and what the pair model says of the two; None where there is no original."""
        upload = await self._objects.get(case.case.image.object_key, self._max_bytes)
        original = await self._originals.of(case, upload)
        if original is None:
            return None
        return original, await asyncio.to_thread(self._annotator.annotate, upload, original.data)

    async def _drawn(self, case: OpenCase, key: str, pair: tuple[Original, Annotation] | None) -> AnnotatedCase:
        """A moderator's mask, which wins over the machine's; the pair tells its kind, where the two are related."""
        image = case.case.image
        grey, _ = read_mask_png(await self._objects.get(key, self._max_bytes))
        mask = to_full_resolution(grey, image.width, image.height)
        said = AnnotatedCase("dropped", "moderator", "drawn", _area(mask), qes(mask))
        if pair is not None and pair[1].kind != "unrelated":
            said = replace(said, kind=pair[1].kind, original_sha256=pair[0].sha256)
        if not said.area:
            return said
        related = pair[1] if pair is not None and said.original_sha256 is not None else None
        return await self._kept(said, mask, related)

    async def _kept(self, said: AnnotatedCase, mask: Grey, pair: Annotation | None) -> AnnotatedCase:
        """The case with its mask stored and, where an object was taken from the original, the original's."""
        taken = None if pair is None or pair.original_mask is None else await self._stored(pair.original_mask)
        return replace(said, outcome="kept", mask_key=await self._stored(mask), original_mask_key=taken)

    async def _stored(self, mask: Grey) -> str:
        """Puts a mask [H,W] uint8 into the store under the hash of its PNG. Returns its key."""
        png = encode_png(mask)
        key = mask_key(png)
        await self._objects.put(key, png, "image/png")
        return key


def _area(mask: Grey) -> float:
    """Share of a soft mask [H,W] uint8 that is marked."""
    return float(np.mean(flagged(mask, MARKED)))
