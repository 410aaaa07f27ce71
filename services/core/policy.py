"""Policy: the thresholds that turn scores into decisions, as versioned data.

In: a JSON document. Out: a frozen `Policy` whose `version` stands in every verdict. Two policies with the same numbers
have the same version, and any change of a number changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.core.learn.outlier import TrainingRanges

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PathPolicy(BaseModel):
    """Thresholds of one path. Scores at or above `manipulated_at` decide; between the two a person looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manipulated_at: Share
    doubtful_at: Share
    least_area: Annotated[Share, Field(description="A smaller flagged share of the picture counts as none.")]


Reviewed = Literal["manipulated", "no_evidence", "inconclusive"]
"""What a moderator can decide; `inconclusive` says that a person cannot tell either."""


class ReviewReason(BaseModel):
    """A reason that moderators give for a decision. `key` is the number key that chooses it on the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    label: Annotated[str, Field(min_length=1, max_length=200)]
    key: Annotated[str, Field(pattern=r"^[1-9]$")]
    decisions: Annotated[tuple[Reviewed, ...], Field(min_length=1, description="With which decisions it goes.")]


def _reason(key: str, code: str, label: str, *decisions: Reviewed) -> ReviewReason:
    return ReviewReason(code=code, label=label, key=key, decisions=decisions)


REVIEW_REASONS = (
    _reason("1", "content_added", "Something was added", "manipulated"),
    _reason("2", "content_removed", "Something was removed", "manipulated"),
    _reason("3", "person_altered", "A face or body was changed", "manipulated"),
    _reason("4", "text_altered", "Text or numbers were changed", "manipulated"),
    _reason("5", "generated", "Parts were generated", "manipulated"),
    _reason("1", "same_picture", "Same as its original", "no_evidence"),
    _reason("2", "harmless_edit", "Only colours, crop, frame or compression differ", "no_evidence"),
    _reason("3", "false_alarm", "What was marked is no edit", "no_evidence"),
    _reason("1", "too_poor", "Too small, blurred or compressed to tell", "inconclusive"),
    _reason("2", "needs_context", "Cannot be told from the picture alone", "inconclusive"),
)


class ReviewPolicy(BaseModel):
    """Which verdicts a person looks at, and how they say what they found. No verdict depends on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inconclusive: Annotated[bool, Field(description="Inconclusive verdicts are looked at.")] = True
    paths_disagree: Annotated[bool, Field(description="So are those whose two paths say otherwise.")] = True
    spot_check_share: Annotated[
        Share, Field(description="And so is a random share of all others, by their content.")
    ] = 0.0
    reasons: tuple[ReviewReason, ...] = REVIEW_REASONS
    reason_required: Annotated[
        tuple[Reviewed, ...], Field(description="Decisions that need a reason code; each must have one to give.")
    ] = ("manipulated",)
    tenant_weights: Annotated[
        Mapping[str, Annotated[float, Field(ge=0.0, le=10.0)]],
        Field(description="How much a tenant's cases count in the queue; 1 where it is not named."),
    ] = {}

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # a mapping has no hash of its own, and processes keep what a policy needs

    @model_validator(mode="after")
    def _each_decision_has_its_keys(self) -> Self:
        codes = [reason.code for reason in self.reasons]
        if len(set(codes)) < len(codes):
            raise ValueError("a reason code is there twice")
        keys = [(decision, reason.key) for reason in self.reasons for decision in reason.decisions]
        if len(set(keys)) < len(keys):
            raise ValueError("two reasons of one decision have the same key")
        if missing := [each for each in self.reason_required if each not in {decision for decision, _ in keys}]:
            raise ValueError(f"{missing[0]} needs a reason code and has none")
        return self


class Policy(BaseModel):
    """All thresholds, and the rules of reviews. Immutable; identified by `version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    mask_threshold: Annotated[Share, Field(description="Probability at or above which a pixel is flagged.")] = 0.5
    # By the shipped weights' metadata. Constrained: the score that 1 % of generated authentic pairs exceed
    # (`score_at_fpr_1`), and even odds, which fewer than 5 % of them reach (`score_at_fpr_5` is 0.18): what is more
    # likely authentic than not is no case for a person. Unconstrained: the scores that 1 % and 5 % of held-out
    # photographs exceed, after what platforms do to them (`python -m trainer.budget`).
    constrained: PathPolicy = PathPolicy(manipulated_at=0.8, doubtful_at=0.5, least_area=0.0005)
    unconstrained: PathPolicy = PathPolicy(manipulated_at=0.898, doubtful_at=0.774, least_area=0.002)
    least_overlap: Annotated[
        Share, Field(description="A candidate that covers less of the upload is not compared.")
    ] = 0.3
    least_qes: Annotated[Share, Field(description="A flagged mask below this is doubtful (paper: 0.5).")] = 0.5
    audit_share: Annotated[Share, Field(description="Random share of verdicts that the trainer looks at.")] = 0.01
    both_paths_share: Annotated[Share, Field(description="Random share that both paths judge, to compare them.")] = 0.01
    training: Annotated[
        TrainingRanges | None,
        Field(description="What the models were fitted on; pictures beyond it are hard cases. Unset: none are."),
    ] = None
    review: ReviewPolicy = ReviewPolicy()

    @property
    def version(self) -> str:
        """`<name>-<first 10 hex of the SHA-256 of the canonical JSON>`, without `review`: no verdict depends on it."""
        canonical = self.model_dump_json(exclude={"name", "review"}, exclude_none=True).encode()
        return f"{self.name}-{hashlib.sha256(canonical).hexdigest()[:10]}"


DEFAULT_POLICY = Policy()


def chosen(identity: str, share: float) -> bool:
    """Whether a random share takes this identity in. The same identity always gets the same answer.

    `identity` should name the purpose too, such as `audit/<sha256>`, so that shares are independent.
    """
    draw = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    return draw < share
