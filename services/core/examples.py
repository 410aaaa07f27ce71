"""One realistic event of every type, for the AsyncAPI document and for readers.

In: nothing. Out: `EXAMPLES`. They are built from the contracts themselves, so an example can never be invalid.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.core.events import (
    Candidate,
    CocoRle,
    DeadLetter,
    Decision,
    Event,
    Fingerprint,
    HardCaseFound,
    HardCaseReason,
    ImageIntaken,
    ImageUploaded,
    Mask,
    ModelPromoted,
    ModelVersion,
    ObjectImage,
    OriginalRegistered,
    Path,
    Reason,
    Region,
    ReviewDecided,
    StoredImage,
    UrlImage,
    VerdictReached,
)

_NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
_UPLOAD_SHA = "9f2c5b0d8a1e4f6378c2d90b1ea54c7f03d6b8a92e17f54c60d3b9a8e7214f50"
_ORIGINAL_SHA = "1b7e04c2d95f8a36e0c47b21f89d5a03c6e2b1748f90da35c7e6124b8d03fa91"

_IMAGE = StoredImage(
    object_key=f"images/sha256/9f/{_UPLOAD_SHA}",
    sha256=_UPLOAD_SHA,
    size_bytes=241_807,
    width=1024,
    height=683,
    format="JPEG",
)
_CANDIDATE = Candidate(
    original_id="agency-2026-08812",
    sha256=_ORIGINAL_SHA,
    object_key=f"images/sha256/1b/{_ORIGINAL_SHA}",
    trusted=True,
    source="news agency",
    registered_at=_NOON - timedelta(days=9),
    distance=14,
    inliers=312,
    overlap=0.998,
    homography=(1.0, 0.0, 0.4, 0.0, 1.0, -0.2, 0.0, 0.0, 1.0),
)
_MODELS = (ModelVersion(name="constrained", version="0.1.0+5f1d22c07be9"),)
_POLICY = "default-52ab3f07c1"

_VERDICT = VerdictReached(
    upload_id="photo-81",
    tenant="default",
    decision=Decision.MANIPULATED,
    path=Path.CONSTRAINED_SPG,
    score=0.94,
    reasons=(
        Reason(code="differs_from_original", text="3.1 % of the picture differs from the original agency-2026-08812."),
    ),
    image=_IMAGE,
    mask=Mask(
        object_key=f"masks/9f/{_UPLOAD_SHA}.png",
        rle=CocoRle(size=(683, 1024), counts="Qk[6:dd0000000O1000000O10000000"),
        area=0.031,
        regions=(Region(x=412, y=230, width=168, height=131, area=0.031),),
        qes=0.83,
    ),
    candidate=_CANDIDATE,
    models=_MODELS,
    policy_version=_POLICY,
    index_version="pdq-1/4711",
    filename="photo-81.jpg",
    uploaded_at=_NOON,
    judged_at=_NOON + timedelta(milliseconds=612),
    timings_ms={"guard": 21.4, "fingerprint": 8.2, "lookup": 96.0, "constrained": 341.7, "verdict": 12.9},
)

_EVENTS: tuple[Event, ...] = (
    ImageUploaded(
        upload_id="photo-81",
        image=ObjectImage(object_key="uploads/default/photo-81"),
        uploaded_at=_NOON,
        filename="photo-81.jpg",
        sha256=_UPLOAD_SHA,
    ),
    OriginalRegistered(
        original_id="agency-2026-08812",
        image=UrlImage(url="https://pictures.example.com/2026/08812.jpg"),
        registered_at=_NOON - timedelta(days=9),
        source="news agency",
    ),
    ImageIntaken(
        upload_id="photo-81",
        tenant="default",
        uploaded_at=_NOON,
        filename="photo-81.jpg",
        image=_IMAGE,
        fingerprint=Fingerprint(pdq="d8f0c1e3" * 8, pdq_quality=100),
        candidates=(_CANDIDATE,),
        notes=("exif_rotated",),
        index_version="pdq-1/4711",
        timings_ms={"guard": 21.4, "fingerprint": 8.2, "lookup": 96.0},
    ),
    _VERDICT,
    ReviewDecided(
        decision_id="5b0e8a52-6f0c-4f0e-9d0b-0a1f5c7d2e44",
        upload_id="photo-81",
        tenant="default",
        of_revision=0,
        moderator="mod-17",
        decision=Decision.MANIPULATED,
        reason_codes=("object_added",),
        decided_at=_NOON + timedelta(minutes=4),
    ),
    HardCaseFound(
        upload_id="photo-82",
        tenant="default",
        revision=0,
        reasons=(HardCaseReason.LOW_QES, HardCaseReason.DOUBTFUL_SCORE),
        priority=0.7,
        image=_IMAGE,
        score=0.55,
        models=_MODELS,
        policy_version=_POLICY,
        found_at=_NOON + timedelta(seconds=1),
    ),
    DeadLetter(
        source_topic="image-uploads",
        source_partition=2,
        source_offset=90_210,
        source_key=b"photo-83",
        source_headers=(("ce_type", b"dev.pentimento.image.uploaded.v1"),),
        source_value=b"{not json",
        group="intake",
        stage="decode",
        kind="undecodable",
        error_type="Undecodable",
        message="not a ImageUploaded: value: Invalid JSON: key must be a string at line 1 column 2",
        attempts=1,
        failed_at=_NOON,
    ),
    ModelPromoted(
        model="unconstrained",
        version="0.2.0+a41c09e77d10",
        previous_version="0.1.0+77be0a3195fc",
        action="promoted",
        archive_sha256="c0ffee" + "0" * 58,
        reason="pixel F1 .41 -> .47, false alarms on camera photos unchanged",
        promoted_at=_NOON,
    ),
)

EXAMPLES: dict[str, Event] = {event.ce_type: event for event in _EVENTS}
"""Example event by CloudEvents type, one for each of `events.EVENTS`."""
