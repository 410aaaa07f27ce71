"""Rounds of the learning loop: their steps, and what a step brings. Pure.

In: a step and what became of it. Out: where the round stands then. A round goes through `STEPS` in order until a step
decides it; what it decides is the audit record of why a model serves, or does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from services.core.errors import Broken

Step = Literal["annotate", "collect", "freeze", "fit", "gate", "register", "promote", "watch"]
STEPS: tuple[Step, ...] = get_args(Step)

Decision = Literal["too_few", "refused", "registered", "promoted", "rolled_back", "abandoned"]
"""`registered`: it passed the gate, and nobody asked for it to be promoted."""


class Options(BaseModel):
    """What a round is to do. A round keeps those that it began with, whatever its successors are told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photos: tuple[str, ...] = Field(min_length=1)  # folders of photographs to make forgeries from
    tenants: tuple[str, ...] = ("default",)
    least_new: int = Field(200, ge=1)  # training samples that no earlier round was fitted on
    per_class: int | None = Field(None, ge=1)  # cap of the dataset, see `samples.Caps`
    sets: tuple[str, ...] = ()  # folders of real forgeries that the gate compares on
    side: int = Field(1024, ge=64)  # pixels of the longer side at which pairs are annotated
    steps: int = Field(600, ge=1)  # of the fit
    samples_share: float = Field(0.5, ge=0, le=1)  # of the pictures of the fit that come from samples
    fit: tuple[str, ...] = ()  # further words for `trainer.fit`
    gate: tuple[str, ...] = ()  # further words for `trainer.gate`
    champion: str = ""  # weights to go on from; empty: those that serve
    registry: str  # where MLflow keeps versions
    work: str  # folder for what is under way
    promote: bool = False  # let a challenger serve that passed the gate
    watch_minutes: float = Field(10.0, ge=0)  # how long it is watched then


@dataclass(frozen=True, slots=True)
class Round:
    """A round as it stands. `step` is in work, or was the last one where `finished_at` is set; `times` says when each
    of its steps ended. `weights_key` and `report_key` are keys of the object store."""

    id: int
    step: Step
    options: Options
    started_at: datetime
    finished_at: datetime | None = None
    new_samples: int | None = None
    dataset: str | None = None
    champion: str | None = None
    challenger: str | None = None
    weights_key: str | None = None
    report_key: str | None = None
    decision: Decision | None = None
    reason: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        values = asdict(self)
        ended = None if self.finished_at is None else self.finished_at.isoformat()
        times = {"started_at": self.started_at.isoformat(), "finished_at": ended}
        return values | times | {"options": self.options.model_dump(mode="json")}


@dataclass(frozen=True, slots=True)
class Done:
    """What a step brought: values of `Round` that it found, and, where the round ends with it, the decision and why."""

    new_samples: int | None = None
    dataset: str | None = None
    champion: str | None = None
    challenger: str | None = None
    weights_key: str | None = None
    report_key: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    reason: str | None = None


def following(step: Step, done: Done) -> Step:
    """The step after one; the same where the round is decided. Raises Broken where the last one decided nothing."""
    if done.decision is not None:
        return step
    if step == STEPS[-1]:
        raise Broken(f"the last step of a round, {step}, must decide it")
    return STEPS[STEPS.index(step) + 1]
