"""Policy: the thresholds that turn scores into decisions, as versioned data.

In: a JSON document. Out: a frozen `Policy` whose `version` stands in every verdict. Two policies with the same numbers
have the same version, and any change of a number changes it.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.core.learn.outlier import TrainingRanges

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PathPolicy(BaseModel):
    """Thresholds of one path. Scores at or above `manipulated_at` decide; between the two a person looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manipulated_at: Share
    doubtful_at: Share
    least_area: Annotated[Share, Field(description="A smaller flagged share of the picture counts as none.")]


class Policy(BaseModel):
    """All thresholds. Immutable; identified by `version`."""

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

    @property
    def version(self) -> str:
        """`<name>-<first 10 hex of the SHA-256 of the canonical JSON>`."""
        canonical = self.model_dump_json(exclude={"name"}, exclude_none=True).encode()
        return f"{self.name}-{hashlib.sha256(canonical).hexdigest()[:10]}"


DEFAULT_POLICY = Policy()


def chosen(identity: str, share: float) -> bool:
    """Whether a random share takes this identity in. The same identity always gets the same answer.

    `identity` should name the purpose too, such as `audit/<sha256>`, so that shares are independent.
    """
    draw = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    return draw < share
