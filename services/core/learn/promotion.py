"""Promotions as values: which version of a model serves, which one served before, and the event that says so.

In: a model's promotions, oldest first. Out: the stack of versions that served. A promotion puts a version onto it, a
rollback takes the top away, so that a rollback always leads to what served before, however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from services.core.events import ModelPromoted

PROMOTED = "promoted-"
"""How the names of archives begin that a model server does not load when it starts: who serves is said afterwards."""

Action = Literal["promoted", "rolled_back"]
State = Literal["begun", "done", "given_up"]


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a served model, as its archive's manifest has it, and the archive's bytes by hash and size."""

    model: str
    version: str
    archive_sha256: str
    size_bytes: int

    @property
    def object_key(self) -> str:
        """Where the archive lies in the object store."""
        return f"models/sha256/{self.archive_sha256[:2]}/{self.archive_sha256}.mar"

    @property
    def file_name(self) -> str:
        """The archive's name in the model server's store."""
        return f"{PROMOTED}{self.model}-{self.archive_sha256[:12]}.mar"


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that was to serve instead of `previous_version`; or that was rolled back, so that the latter serves."""

    id: int
    model: str
    version: str
    previous_version: str
    action: Action
    archive_sha256: str
    reason: str
    state: State
    begun_at: datetime
    published: bool

    @property
    def serves(self) -> str:
        """The version that serves once it is done."""
        return self.version if self.action == "promoted" else self.previous_version

    def event(self) -> ModelPromoted:
        """What Kafka is told; the same whenever it is told again."""
        return ModelPromoted(
            model=self.model,
            version=self.version,
            previous_version=self.previous_version,
            action=self.action,
            archive_sha256=self.archive_sha256,
            reason=self.reason,
            promoted_at=self.begun_at,
        )


def served(history: Sequence[Promotion]) -> list[str]:
    """The versions that served, the one that serves now last; empty where nothing was ever promoted."""
    stack: list[str] = []
    for each in history:
        if each.state != "done":
            continue
        if each.action == "rolled_back":
            stack.pop()
        else:
            stack += [each.version] if stack else [each.previous_version, each.version]
    return stack


def open_one(history: Sequence[Promotion]) -> Promotion | None:
    """The promotion or rollback that was begun and not ended."""
    return next((each for each in history if each.state == "begun"), None)
