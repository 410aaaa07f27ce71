"""Uploads, originals, verdicts, reviews and hard cases as the stream leaves them, of small generated pictures."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from services.clients.annotations import AnnotatedCase, Annotations
from services.clients.candidates import Candidates, Geometries, Geometry, Picture
from services.clients.cases import HardCases, Verdicts
from services.clients.database import Database
from services.clients.late import Uploads
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.core.events import (
    Candidate,
    Decision,
    HardCaseFound,
    HardCaseReason,
    Reason,
    ReviewDecided,
    StoredImage,
    VerdictReached,
)
from services.core.events import (
    Path as JudgedBy,
)
from services.core.intake.fingerprint import fingerprint
from services.core.intake.keys import image_key, mask_key
from services.core.judge.mask import describe
from services.core.learn.qes import qes
from services.core.pixels import Pixels, encode_png, open_image
from tests.clients.examples import NOON
from tests.models.conftest import textured

SIDE = 320
POLICY = "default-0123456789"
BOX = (slice(60, 130), slice(80, 170))
"""Where `edited` pictures differ from what they were made from."""


@cache
def picture(seed: int) -> Pixels:
    """A textured picture [320,320,3] uint8."""
    return textured(np.random.default_rng(seed), SIDE)


def edited(rgb: Pixels) -> Pixels:
    """The picture with other colours in `BOX`."""
    changed = rgb.copy()
    changed[BOX] = changed[BOX][..., ::-1] // 2 + 90
    return changed


def with_part(rgb: Pixels, host: Pixels) -> Pixels:
    """Another picture with a part of this one in it."""
    pasted = host.copy()
    pasted[60:160, 80:200] = rgb[100:200, 100:220]
    return pasted


def box_mask() -> Pixels:
    """The true mask of an `edited` picture."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[BOX] = 255
    return mask


@dataclass(frozen=True)
class World:
    """Everything around the learning loop. `folder` is where the object store lies."""

    database: Database
    objects: Objects
    dsn: str
    folder: Path

    def environment(self) -> dict[str, str]:
        """What a process of ours needs to be told."""
        ours = {"PENTIMENTO_POSTGRES__DSN": self.dsn, "PENTIMENTO_OBJECTS__URL": f"file://{self.folder}"}
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        return {**os.environ, "PENTIMENTO_DATA_DIR": str(self.folder.parent / "no-data"), **ours, **threads}

    async def register(
        self, rgb: Pixels, *, trusted: bool, name: str, tenant: str = "acme", minutes: float = 0, kind: str = ".png"
    ) -> Picture:
        """A picture in the store and in the index."""
        data = encode_png(rgb) if kind == ".png" else cv2.imencode(kind, rgb[..., ::-1])[1].tobytes()
        image = await self.put(data)
        found = Picture(
            tenant=tenant,
            original_id=name,
            image=image,
            fingerprint=fingerprint(open_image(data)),
            trusted=trusted,
            source="library" if trusted else "upload",
            registered_at=NOON + timedelta(minutes=minutes),
        )
        await Candidates(self.database).register(found)
        return found

    async def put(self, data: bytes) -> StoredImage:
        opened = open_image(data)
        sha256 = hashlib.sha256(data).hexdigest()
        await self.objects.put(image_key(sha256), data, "image/png")
        return StoredImage(
            object_key=image_key(sha256),
            sha256=sha256,
            size_bytes=len(data),
            width=opened.width,
            height=opened.height,
            format=opened.format,
        )

    async def put_mask(self, mask: Pixels) -> str:
        png = encode_png(mask)
        await self.objects.put(mask_key(png), png, "image/png")
        return mask_key(png)

    async def upload(
        self,
        rgb: Pixels,
        upload_id: str,
        *,
        tenant: str = "acme",
        against: Picture | None = None,
        decision: Decision = Decision.INCONCLUSIVE,
        mask: Pixels | None = None,
        priority: float = 0.5,
        kind: str = ".png",
    ) -> Picture:
        """An upload that was judged and is a hard case."""
        registered = await self.register(rgb, trusted=False, name=upload_id, tenant=tenant, kind=kind)
        await Uploads(self.database).remember(tenant, upload_id, registered.image.sha256)
        verdict = await self._verdict(registered, upload_id, against, decision, mask)
        await Ledger(self.database).claim(verdict)
        await Verdicts(self.database).project(verdict)
        case = HardCaseFound(
            upload_id=upload_id,
            tenant=tenant,
            revision=0,
            reasons=(HardCaseReason.DOUBTFUL_SCORE,),
            priority=priority,
            image=registered.image,
            mask_key=None if verdict.mask is None else verdict.mask.object_key,
            candidate=verdict.candidate,
            policy_version=POLICY,
            found_at=NOON,
        )
        await HardCases(self.database).add(case)
        return registered

    async def review(
        self, upload_id: str, decision: Decision, *, mask: Pixels | None = None, tenant: str = "acme", number: int = 1
    ) -> None:
        """A moderator's decision on an upload."""
        assert decision is not Decision.REJECTED
        review = ReviewDecided(
            decision_id=f"{upload_id}/{number}",
            upload_id=upload_id,
            tenant=tenant,
            of_revision=0,
            moderator="kim",
            decision=decision,
            corrected_mask_key=None if mask is None else await self.put_mask(mask),
            decided_at=NOON + timedelta(hours=number),
        )
        await Verdicts(self.database).record_review(review)

    async def annotate_by_hand(self, found: AnnotatedCase, *, tenant: str = "acme", annotator: str = "hand/1") -> None:
        """Records what became of the most urgent open case."""
        annotations = Annotations(self.database)
        (case,) = await annotations.open(tenant, annotator, limit=1)
        await annotations.record(case, annotator, found)

    async def rows(self, statement: str) -> list[dict[str, object]]:
        async with self.database.connection() as connection:
            return list(await (await connection.execute(statement)).fetchall())

    async def _verdict(
        self, registered: Picture, upload_id: str, against: Picture | None, decision: Decision, mask: Pixels | None
    ) -> VerdictReached:
        described = None
        if mask is not None:
            key = await self.put_mask(mask)
            described = describe(mask, threshold=0.5, qes=qes(mask), object_key=key)
        if against is not None:
            pair = (registered.image.sha256, against.image.sha256)
            await Geometries(self.database).remember({pair: Geometry(80, 1.0, (1, 0, 0, 0, 1, 0, 0, 0, 1))})
        return VerdictReached(
            upload_id=upload_id,
            tenant=registered.tenant,
            decision=decision,
            path=JudgedBy.UNCONSTRAINED if against is None else JudgedBy.CONSTRAINED_SPG,
            score=0.6,
            reasons=(Reason(code="weak_traces", text="Weak traces."),),
            image=registered.image,
            mask=described,
            candidate=None if against is None else candidate_of(against),
            policy_version=POLICY,
            filename=f"{upload_id}.png",
            uploaded_at=NOON,
            judged_at=NOON,
        )


def candidate_of(original: Picture) -> Candidate:
    return Candidate(
        original_id=original.original_id,
        sha256=original.image.sha256,
        object_key=original.image.object_key,
        trusted=original.trusted,
        source=original.source,
        registered_at=original.registered_at,
        distance=12,
        inliers=80,
        overlap=1.0,
        homography=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )
