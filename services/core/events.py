"""The contracts: every event that crosses Kafka, as pydantic models, with its CloudEvents type and topic.

In: JSON bytes plus `ce_*` headers. Out: frozen models. Values are JSON; CloudEvents 1.0 attributes travel as Kafka
headers (binary mode); see `envelope.py` for both directions. Unknown fields are ignored, so that a newer producer never
breaks an older consumer; a field is never removed or retyped within a version. `docs/schemas/` and `docs/asyncapi.yaml`
are generated from here by `python -m services.core.schemas`.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

from services.core import topology

NAMESPACE = UUID("6b0f4f7e-7d0e-5c57-9d3b-2f1f2b8b7c11")
"""Root of every deterministic event id: the same fact always has the same id."""

Identifier = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tenant = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Lower-case hexadecimal SHA-256.")]
PdqHex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="256-bit PDQ hash, lower-case hexadecimal.")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
ObjectKey = Annotated[str, Field(min_length=1, max_length=1024)]
Bytes = Annotated[bytes, PlainSerializer(lambda data: b64encode(data).decode(), return_type=str, when_used="json")]
"""Bytes here, base64 in JSON: written in the standard alphabet, which every language decodes; read in either."""


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class Event(Contract):
    """Base of the events: `ce_type` and `topic` are fixed per class, `event_id` and `key` follow from the content."""

    ce_type: ClassVar[str]
    topic: ClassVar[str]

    def event_id(self) -> str:
        """Deterministic id: equal for every delivery of the same fact."""
        raise NotImplementedError

    def key(self) -> str:
        """The Kafka key: what must stay in order stays on one partition."""
        raise NotImplementedError

    def to_bytes(self) -> bytes:
        """The message value, compact JSON in UTF-8."""
        return self.model_dump_json(exclude_none=True).encode()


# -- images by reference ------------------------------------------------------------------------------------------


class ObjectImage(Contract):
    """An image in the object store that both sides can reach."""

    kind: Literal["object"] = "object"
    object_key: ObjectKey


class UrlImage(Contract):
    """An image behind an `https://` URL whose host is on the allow-list."""

    kind: Literal["url"] = "url"
    url: Annotated[str, Field(min_length=9, max_length=2048)]


class InlineImage(Contract):
    """The image's own bytes in base64, up to the limit `intake.inline_max_bytes`."""

    kind: Literal["inline"] = "inline"
    data: Bytes


ImageReference = Annotated[ObjectImage | UrlImage | InlineImage, Field(discriminator="kind")]


class StoredImage(Contract):
    """An image that passed the guard and lies in our object store under its content hash."""

    object_key: ObjectKey
    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0, description="Pixels, after EXIF orientation.")]
    height: Annotated[int, Field(gt=0, description="Pixels, after EXIF orientation.")]
    format: Annotated[str, Field(description="Real type by content: JPEG, PNG, WEBP, GIF, BMP, TIFF or AVIF.")]


class Fingerprint(Contract):
    """What intake knows of a picture's content and making."""

    pdq: PdqHex
    pdq_quality: Annotated[int, Field(ge=0, le=100, description="Below 50 the hash is not to be trusted.")]
    jpeg_quantisation: Annotated[
        tuple[tuple[int, ...], ...] | None,
        Field(description="Quantisation tables in zigzag order, 64 numbers each; absent where not a JPEG."),
    ] = None


# -- uploads and originals ----------------------------------------------------------------------------------------


class ImageUploaded(Event):
    """A platform took in an image. The producer chooses `upload_id`; the first event with an id wins."""

    ce_type: ClassVar[str] = "dev.pentimento.image.uploaded.v1"
    topic: ClassVar[str] = topology.UPLOADS

    upload_id: Identifier
    tenant: Tenant = "default"
    image: ImageReference
    uploaded_at: AwareDatetime
    filename: Annotated[str | None, Field(max_length=400)] = None
    sha256: Annotated[Sha256 | None, Field(description="If given, the bytes must match.")] = None

    def event_id(self) -> str:
        return str(uuid5(NAMESPACE, f"uploaded/{self.tenant}/{self.upload_id}"))

    def key(self) -> str:
        return self.upload_id


class OriginalRegistered(Event):
    """A trusted library hands over a picture that uploads may have been made from."""

    ce_type: ClassVar[str] = "dev.pentimento.original.registered.v1"
    topic: ClassVar[str] = topology.ORIGINALS

    original_id: Identifier
    tenant: Tenant = "default"
    image: ImageReference
    registered_at: AwareDatetime
    source: Annotated[str, Field(max_length=200, description="Who vouches for it.")] = "library"
    filename: Annotated[str | None, Field(max_length=400)] = None

    def event_id(self) -> str:
        return str(uuid5(NAMESPACE, f"original/{self.tenant}/{self.original_id}"))

    def key(self) -> str:
        return self.original_id


# -- intake -------------------------------------------------------------------------------------------------------


class Candidate(Contract):
    """A picture that the upload may have been made from, geometrically verified. Best first in any list of them."""

    original_id: Identifier
    sha256: Sha256
    object_key: ObjectKey
    trusted: Annotated[bool, Field(description="Registered by a trusted library; otherwise an earlier upload.")]
    source: str
    registered_at: AwareDatetime
    distance: Annotated[int, Field(ge=0, le=256, description="Hamming distance of the PDQ hashes.")]
    inliers: Annotated[int, Field(ge=0, description="Feature matches that agree with the homography.")]
    overlap: Annotated[Share, Field(description="Share of the upload that the warped original covers.")]
    homography: Annotated[
        tuple[float, ...] | None,
        Field(min_length=9, max_length=9, description="Row-major 3x3, original's pixels to upload's pixels."),
    ] = None


class ModelVersion(Contract):
    """A model that took part in a verdict."""

    name: str
    version: str


class LateOriginal(Contract):
    """A trusted original that was registered after an upload that it matches had been looked up."""

    original_id: Identifier
    sha256: Sha256


class Rejudging(Contract):
    """An earlier verdict that is to be reached again, because other models serve now."""

    run: Annotated[int, Field(ge=1, description="Which `pentimento rejudge` asked.")]
    revision: Annotated[int, Field(ge=0, description="The verdict's revision that is judged again.")]
    models: Annotated[tuple[ModelVersion, ...], Field(description="Who is to judge it.")]


class ImageIntaken(Event):
    """An accepted upload with its fingerprint and ranked candidate originals."""

    ce_type: ClassVar[str] = "dev.pentimento.image.intaken.v1"
    topic: ClassVar[str] = topology.INTAKES

    upload_id: Identifier
    tenant: Tenant
    uploaded_at: AwareDatetime
    filename: str | None = None
    image: StoredImage
    fingerprint: Fingerprint
    candidates: tuple[Candidate, ...] = ()
    notes: Annotated[tuple[str, ...], Field(description="What the guard changed, e.g. `exif_rotated`.")] = ()
    index_version: str
    timings_ms: dict[str, float] = {}
    late_original: Annotated[
        LateOriginal | None, Field(description="Why the upload is to be judged again; absent the first time.")
    ] = None
    rejudging: Annotated[Rejudging | None, Field(description="The same, where not an original but a model is new.")] = (
        None
    )

    def event_id(self) -> str:
        again = f"/late/{self.late_original.sha256}" if self.late_original else ""
        again += f"/rejudge/{self.rejudging.run}" if self.rejudging else ""
        return str(uuid5(NAMESPACE, f"intaken/{self.tenant}/{self.upload_id}{again}"))

    def key(self) -> str:
        return self.upload_id


# -- verdicts -----------------------------------------------------------------------------------------------------


class Decision(StrEnum):
    """What a consumer can act on. "Authentic" is never claimed."""

    MANIPULATED = "manipulated"
    NO_EVIDENCE = "no_evidence"
    INCONCLUSIVE = "inconclusive"
    REJECTED = "rejected"


class Path(StrEnum):
    """How the verdict was reached."""

    CONSTRAINED_SPG = "constrained-spg"
    CONSTRAINED_SDG = "constrained-sdg"
    UNCONSTRAINED = "unconstrained"
    IDENTICAL = "identical"
    REUSED = "reused"
    REJECTED = "rejected"
    REVIEWED = "reviewed"


class CocoRle(Contract):
    """COCO's compressed run-length encoding, column-major, `size` is [height, width]."""

    size: tuple[int, int]
    counts: str


class Region(Contract):
    """Bounding box of one connected flagged region, in the upload's pixels."""

    x: int
    y: int
    width: int
    height: int
    area: Annotated[Share, Field(description="The region's own pixels over the picture's.")]


class Mask(Contract):
    """Where the picture was manipulated. `object_key` is an 8-bit grey PNG of its size, 0..255 = probability."""

    object_key: ObjectKey
    rle: CocoRle
    area: Annotated[Share, Field(description="Share of the picture at or above the policy's mask threshold.")]
    regions: Annotated[tuple[Region, ...], Field(description="Largest first, at most 20.")] = ()
    qes: Annotated[Share, Field(description="Quality evaluation score of the soft mask (arXiv 2508.20987).")]


class Reason(Contract):
    """One reason in words, with a stable code for machines."""

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    text: str


class VerdictReached(Event):
    """The outcome of an upload. Exactly one per upload and revision; a higher revision replaces a lower one."""

    ce_type: ClassVar[str] = "dev.pentimento.verdict.reached.v1"
    topic: ClassVar[str] = topology.VERDICTS

    upload_id: Identifier
    tenant: Tenant
    revision: Annotated[int, Field(ge=0)] = 0
    decision: Decision
    path: Path
    score: Annotated[Share | None, Field(description="Calibrated probability of manipulation; absent if rejected.")] = (
        None
    )
    reasons: Annotated[tuple[Reason, ...], Field(min_length=1)]
    image: Annotated[StoredImage | None, Field(description="Absent where the upload was rejected.")] = None
    mask: Mask | None = None
    candidate: Annotated[Candidate | None, Field(description="The original it was compared with.")] = None
    second_score: Annotated[
        Share | None, Field(description="The other path's score, where policy had both paths look.")
    ] = None
    notes: Annotated[
        tuple[str, ...],
        Field(description="Evidence that the single-image model did not have, e.g. `no_jpeg_history`; no finding."),
    ] = ()
    reused_from: Annotated[str | None, Field(description="Upload whose verdict this repeats (path `reused`).")] = None
    models: tuple[ModelVersion, ...] = ()
    policy_version: str
    index_version: str | None = None
    filename: str | None = None
    uploaded_at: AwareDatetime
    judged_at: AwareDatetime
    timings_ms: Annotated[dict[str, float], Field(description="Milliseconds per stage.")] = {}

    def event_id(self) -> str:
        return verdict_id(self.tenant, self.upload_id, self.revision)

    def key(self) -> str:
        return self.upload_id

    @model_validator(mode="after")
    def _rejected_has_no_picture(self) -> VerdictReached:
        if (self.decision is Decision.REJECTED) != (self.path is Path.REJECTED):
            raise ValueError("decision and path must both be `rejected`, or neither")
        return self


def verdict_id(tenant: str, upload_id: str, revision: int) -> str:
    """The id of the one verdict that an upload has at a revision."""
    return str(uuid5(NAMESPACE, f"verdict/{tenant}/{upload_id}/{revision}"))


# -- review, learning, operation ----------------------------------------------------------------------------------


class ReviewDecided(Event):
    """A moderator decided a case."""

    ce_type: ClassVar[str] = "dev.pentimento.review.decided.v1"
    topic: ClassVar[str] = topology.REVIEWS

    decision_id: Identifier
    upload_id: Identifier
    tenant: Tenant
    of_revision: Annotated[int, Field(ge=0, description="The verdict's revision that the moderator looked at.")]
    moderator: Identifier
    decision: Literal[Decision.MANIPULATED, Decision.NO_EVIDENCE, Decision.INCONCLUSIVE]
    reason_codes: tuple[str, ...] = ()
    comment: Annotated[str | None, Field(max_length=4000)] = None
    corrected_mask_key: ObjectKey | None = None
    decided_at: AwareDatetime

    def event_id(self) -> str:
        return str(uuid5(NAMESPACE, f"review/{self.tenant}/{self.decision_id}"))

    def key(self) -> str:
        return self.upload_id


class HardCaseReason(StrEnum):
    """Why the trainer should look at an upload."""

    LOW_QES = "low_qes"
    PATHS_DISAGREE = "paths_disagree"
    DOUBTFUL_SCORE = "doubtful_score"
    OUTLIER = "outlier"
    MODERATOR_OVERTURNED = "moderator_overturned"
    AUDIT = "audit"


class HardCaseFound(Event):
    """An upload that the trainer should learn from. Keyed by content: one viral image is one case."""

    ce_type: ClassVar[str] = "dev.pentimento.hardcase.found.v1"
    topic: ClassVar[str] = topology.HARD_CASES

    upload_id: Identifier
    tenant: Tenant
    revision: int
    reasons: Annotated[tuple[HardCaseReason, ...], Field(min_length=1)]
    priority: Annotated[Share, Field(description="1 is most urgent.")]
    image: StoredImage
    mask_key: ObjectKey | None = None
    candidate: Candidate | None = None
    score: Share | None = None
    models: tuple[ModelVersion, ...] = ()
    policy_version: str
    found_at: AwareDatetime

    def event_id(self) -> str:
        return str(uuid5(NAMESPACE, f"hardcase/{self.tenant}/{self.image.sha256}/{'+'.join(sorted(self.reasons))}"))

    def key(self) -> str:
        return self.image.sha256


class DeadLetter(Event):
    """A message that could not be handled, whole. A null value with the same key says that it was redriven."""

    ce_type: ClassVar[str] = "dev.pentimento.deadletter.v1"
    topic: ClassVar[str] = topology.DEAD_LETTERS

    source_topic: str
    source_partition: Annotated[int, Field(ge=0)]
    source_offset: Annotated[int, Field(ge=0)]
    source_key: Bytes | None = None
    source_headers: tuple[tuple[str, Bytes], ...] = ()
    source_value: Bytes | None = None
    group: str
    stage: str
    kind: Literal["undecodable", "rejected", "unavailable", "broken"]
    error_type: str
    message: str
    attempts: Annotated[int, Field(ge=1)]
    upload_id: str | None = None
    failed_at: AwareDatetime

    def event_id(self) -> str:
        place = f"{self.group}/{self.source_topic}/{self.source_partition}/{self.source_offset}"
        return str(uuid5(NAMESPACE, f"deadletter/{place}"))

    def key(self) -> str:
        return self.event_id()


class ModelPromoted(Event):
    """A model version became the one that serves, or stopped being it."""

    ce_type: ClassVar[str] = "dev.pentimento.model.promoted.v1"
    topic: ClassVar[str] = topology.PROMOTIONS

    model: str
    version: str
    previous_version: str | None = None
    action: Literal["promoted", "rolled_back"]
    archive_sha256: Sha256
    reason: str
    promoted_at: AwareDatetime

    def event_id(self) -> str:
        when: datetime = self.promoted_at
        return str(uuid5(NAMESPACE, f"promotion/{self.model}/{self.version}/{self.action}/{when.isoformat()}"))

    def key(self) -> str:
        return self.model


EVENTS: tuple[type[Event], ...] = (
    ImageUploaded,
    OriginalRegistered,
    ImageIntaken,
    VerdictReached,
    ReviewDecided,
    HardCaseFound,
    DeadLetter,
    ModelPromoted,
)
"""Every event, in the order in which an image meets them."""
