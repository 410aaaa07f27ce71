"""Values for tests of core: an accepted upload, candidates, findings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.core.events import (
    Candidate,
    CocoRle,
    Decision,
    Fingerprint,
    ImageIntaken,
    Mask,
    ModelVersion,
    Path,
    Reason,
    StoredImage,
    VerdictReached,
)
from services.core.judge.verdict import Finding

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
UPLOAD, ORIGINAL = "a" * 64, "b" * 64


def image(sha256: str = UPLOAD) -> StoredImage:
    return StoredImage(
        object_key=f"images/sha256/{sha256[:2]}/{sha256}",
        sha256=sha256,
        size_bytes=9,
        width=64,
        height=48,
        format="PNG",
    )


def candidate(**changes: Any) -> Candidate:
    facts: dict[str, Any] = {
        "original_id": "the-original",
        "sha256": ORIGINAL,
        "object_key": "images/original",
        "trusted": True,
        "source": "library",
        "registered_at": NOW,
        "distance": 10,
        "inliers": 80,
        "overlap": 1.0,
        "homography": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    }
    return Candidate(**{**facts, **changes})


def intake(*candidates: Candidate, sha256: str = UPLOAD) -> ImageIntaken:
    return ImageIntaken(
        upload_id="the-upload",
        tenant="default",
        uploaded_at=NOW,
        image=image(sha256),
        fingerprint=Fingerprint(pdq="0" * 64, pdq_quality=100),
        candidates=candidates,
        index_version="pdq-1/7",
    )


def mask(*, area: float = 0.1, qes: float = 0.9) -> Mask:
    return Mask(object_key="masks/one.png", rle=CocoRle(size=(48, 64), counts="x"), area=area, qes=qes)


def finding(score: float, *, kind: Any = None, area: float = 0.1, qes: float = 0.9) -> Finding:
    name = "unconstrained" if kind is None else "constrained"
    return Finding(ModelVersion(name=name, version="1"), score, mask(area=area, qes=qes), kind)


def verdict(**changes: Any) -> VerdictReached:
    facts: dict[str, Any] = {
        "upload_id": "the-upload",
        "tenant": "default",
        "decision": Decision.MANIPULATED,
        "path": Path.UNCONSTRAINED,
        "score": 0.95,
        "reasons": (Reason(code="traces_found", text="Traces."),),
        "image": image(),
        "mask": mask(),
        "policy_version": "test",
        "uploaded_at": NOW,
        "judged_at": NOW,
    }
    return VerdictReached(**{**facts, **changes})
