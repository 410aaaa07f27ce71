"""Pictures, verdicts and cases for the tests of the database clients. Every argument has a plain default."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from io import BytesIO

from PIL import Image

from services.clients.candidates import Picture
from services.core.events import (
    Candidate,
    Decision,
    Fingerprint,
    HardCaseFound,
    HardCaseReason,
    ModelVersion,
    Path,
    Reason,
    StoredImage,
    VerdictReached,
)
from services.core.intake.keys import image_key

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PAIR = ModelVersion(name="constrained", version="0.1.0+aaaaaaaaaaaa")
SINGLE = ModelVersion(name="unconstrained", version="0.1.0+bbbbbbbbbbbb")
OLD = ModelVersion(name="unconstrained", version="0.0.1+000000000000")
POLICY = "default-0123456789"


def sha256_of(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def pdq_at(distance: int, *, start: int = 0) -> str:
    """A hash that differs from `pdq_at(0)` in `distance` bits, from bit `start` on."""
    return f"{sum(1 << (bit % 256) for bit in range(start, start + distance)):064x}"


def stored(word: str) -> StoredImage:
    sha256 = sha256_of(word)
    key = f"images/sha256/{sha256[:2]}/{sha256}"
    return StoredImage(object_key=key, sha256=sha256, size_bytes=1000, width=640, height=480, format="JPEG")


def fingerprint(pdq: str | None = None, *, quality: int = 100) -> Fingerprint:
    return Fingerprint(pdq=pdq or pdq_at(0), pdq_quality=quality, jpeg_quantisation=(tuple(range(1, 65)),) * 2)


def picture(
    word: str,
    *,
    pdq: str | None = None,
    quality: int = 100,
    tenant: str = "acme",
    trusted: bool = False,
    original_id: str | None = None,
    minutes: float = 0,
) -> Picture:
    """The picture whose content is `word`, registered so many minutes after noon."""
    return Picture(
        tenant=tenant,
        original_id=original_id or f"id-{word}",
        image=stored(word),
        fingerprint=fingerprint(pdq, quality=quality),
        trusted=trusted,
        source="library" if trusted else "upload",
        registered_at=NOON + timedelta(minutes=minutes),
    )


def candidate(word: str) -> Candidate:
    image = stored(word)
    return Candidate(
        original_id=f"id-{word}",
        sha256=image.sha256,
        object_key=image.object_key,
        trusted=True,
        source="library",
        registered_at=NOON,
        distance=12,
        inliers=80,
        overlap=0.9,
        homography=(1.0, 0.0, 0.1, 0.0, 1.0, 1e-7, 0.0, 0.0, 1.0),
    )


def verdict(
    upload_id: str = "u-1",
    *,
    tenant: str = "acme",
    word: str = "picture",
    decision: Decision = Decision.MANIPULATED,
    path: Path = Path.CONSTRAINED_SPG,
    against: str | None = "original",
    models: tuple[ModelVersion, ...] = (PAIR,),
    policy_version: str = POLICY,
    revision: int = 0,
    minutes: float = 0,
    filename: str | None = None,
    text: str = "The picture differs from its original.",
) -> VerdictReached:
    """A verdict on the content `word`, compared with the content `against`, so many minutes after noon."""
    rejected = path is Path.REJECTED
    return VerdictReached(
        upload_id=upload_id,
        tenant=tenant,
        revision=revision,
        decision=Decision.REJECTED if rejected else decision,
        path=path,
        score=None if rejected else 0.1 + 0.2,
        reasons=(Reason(code="differs_from_original", text=text),),
        image=None if rejected else stored(word),
        candidate=None if against is None or rejected else candidate(against),
        models=models,
        policy_version=policy_version,
        filename=filename,
        uploaded_at=NOON,
        judged_at=NOON + timedelta(minutes=minutes, microseconds=123),
        timings_ms={"verdict": 1.25, "guard": 0.5},
    )


def doubted(data: bytes, upload_id: str, *, tenant: str) -> VerdictReached:
    """What an older model said of a picture's file, now: that it is unsure."""
    sha256, now = hashlib.sha256(data).hexdigest(), datetime.now(UTC)
    with Image.open(BytesIO(data)) as image:
        (width, height), kind = image.size, str(image.format)
    return VerdictReached(
        upload_id=upload_id,
        tenant=tenant,
        decision=Decision.INCONCLUSIVE,
        path=Path.UNCONSTRAINED,
        score=0.8,
        reasons=(Reason(code="weak_traces", text="There are weak traces of editing."),),
        image=StoredImage(
            object_key=image_key(sha256), sha256=sha256, size_bytes=len(data), width=width, height=height, format=kind
        ),
        models=(OLD,),
        policy_version=POLICY,
        uploaded_at=now,
        judged_at=now,
    )


def hard_case(
    upload_id: str,
    *reasons: HardCaseReason,
    word: str = "picture",
    priority: float = 0.5,
    revision: int = 0,
    minutes: float = 0,
) -> HardCaseFound:
    """The content `word` as a case, found through an upload so many minutes after noon."""
    return HardCaseFound(
        upload_id=upload_id,
        tenant="acme",
        revision=revision,
        reasons=reasons,
        priority=priority,
        image=stored(word),
        policy_version=POLICY,
        found_at=NOON + timedelta(minutes=minutes),
    )
