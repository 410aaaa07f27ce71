"""The original of a hard case, sought anew: it may have been registered since the verdict.

In: a case with its newest verdict, the index, the object store. Out: the best original that geometry confirms, with its
bytes, or None. As in the stream, trusted originals are sought by fingerprint. An earlier upload, for which nobody
vouches, counts only where the newest verdict compared the two and says that it is this one which was manipulated: else
the marked picture of the two might be the other one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.clients.annotations import OpenCase
from services.clients.candidates import Candidates
from services.clients.objects import Objects
from services.core.errors import Rejected
from services.core.events import Candidate, Decision
from services.core.intake.lookup import rank, verify


@dataclass(frozen=True, slots=True)
class Search:
    """How far originals are sought: PDQ distance, orientations, pictures that are verified, feature matches that make
    one, and bytes of a picture at most."""

    max_distance: int
    ways: int
    most: int
    min_inliers: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Original:
    """An original and its bytes."""

    sha256: str
    data: bytes


class Originals:
    """Seeks originals. Raises Unavailable, and Rejected where the upload cannot be opened."""

    def __init__(self, candidates: Candidates, objects: Objects, search: Search) -> None:
        self._candidates = candidates
        self._objects = objects
        self._search = search

    async def of(self, case: OpenCase, upload: bytes) -> Original | None:
        """The best original of a case, None where none is known or its bytes have gone."""
        known = _judged_by(case)
        found = [*known, *await self._near(case, upload, but={each.sha256 for each in known})]
        for candidate in rank(found, upload_sha256=case.case.image.sha256):
            if candidate.sha256 != case.case.image.sha256:
                data = await self._bytes(candidate.object_key)
                if data is not None:
                    return Original(candidate.sha256, data)
        return None

    async def _near(self, case: OpenCase, upload: bytes, *, but: set[str]) -> list[Candidate]:
        """Trusted originals that are near by fingerprint and confirmed by geometry."""
        content = await self._candidates.known(case.case.image.sha256)
        if content is None:
            return []
        near = await self._candidates.nearest(
            case.case.tenant,
            content[1],
            max_distance=self._search.max_distance,
            ways=self._search.ways,
            limit=self._search.most + 1,  # one place may go to the upload's own bytes
            trusted=True,
        )
        here = [
            (each, data)
            for each in near
            if each.picture.image.sha256 not in {*but, case.case.image.sha256}
            and (data := await self._bytes(each.picture.image.object_key)) is not None
        ]
        answers = await asyncio.to_thread(
            verify, upload, tuple(data for _, data in here), min_inliers=self._search.min_inliers
        )
        return [
            each.candidate(answer.inliers, answer.overlap, answer.homography)
            for (each, _), answer in zip(here, answers, strict=True)
            if answer
        ]

    async def _bytes(self, key: str) -> bytes | None:
        try:
            return await self._objects.get(key, self._search.max_bytes)
        except Rejected:  # gone from the store, or above today's limit: no original any more
            return None


def _judged_by(case: OpenCase) -> list[Candidate]:
    """The candidate that the newest verdict was reached with, where it counts."""
    verdict = case.verdict
    candidate = case.case.candidate if verdict is None else verdict.candidate
    if candidate is None:
        return []
    proven = verdict is not None and verdict.decision is Decision.MANIPULATED
    return [candidate] if candidate.trusted or proven else []
