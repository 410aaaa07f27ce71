"""Groups, stages and topics as data: the one source for workers, the embedded stack, docs and charts.

In: nothing. Out: `TOPICS`, `GROUPS`. The way of an image is intake -> judge -> learn; one Kafka topic stands
between two groups, and inside a group stages are plain function calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic. `retention_hours` None keeps messages for ever; `max_message_bytes` is the broker's limit."""

    name: str
    partitions: int
    cleanup: Literal["delete", "compact", "compact,delete"]
    retention_hours: int | None
    max_message_bytes: int
    about: str

    def config(self) -> dict[str, str]:
        """The topic's configuration in Kafka's own words."""
        retention_ms = -1 if self.retention_hours is None else self.retention_hours * 3_600_000
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
        }


@dataclass(frozen=True, slots=True)
class Group:
    """One Faust app: a consumer group that runs as many processes as its topics have partitions."""

    name: Literal["intake", "judge", "learn"]
    reads: tuple[str, ...]
    stages: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def consumer_group(self) -> str:
        """Faust's app id, which is Kafka's consumer group. KEDA and lag alerts use it too."""
        return f"pentimento-{self.name}"


MESSAGE_BYTES = 1_500_000
DEAD_LETTER_BYTES = 4_000_000  # a dead letter carries the original message in base64, with its headers
DAY = 24

UPLOADS = "image-uploads"
ORIGINALS = "original-images"
INTAKES = "image-intakes"
VERDICTS = "image-verdicts"
REVIEWS = "review-decisions"
HARD_CASES = "hard-cases"
DEAD_LETTERS = "dead-letters"
PROMOTIONS = "model-promotions"

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(UPLOADS, 4, "delete", 7 * DAY, MESSAGE_BYTES, "Images that a platform took in, one event each."),
        Topic(ORIGINALS, 4, "delete", 7 * DAY, MESSAGE_BYTES, "Pictures to register as trusted originals."),
        Topic(INTAKES, 4, "delete", 7 * DAY, MESSAGE_BYTES, "Accepted uploads with fingerprint and candidates."),
        Topic(VERDICTS, 4, "delete", 30 * DAY, MESSAGE_BYTES, "One verdict per upload and revision."),
        Topic(REVIEWS, 4, "delete", 30 * DAY, MESSAGE_BYTES, "What moderators decided."),
        Topic(HARD_CASES, 4, "delete", 30 * DAY, MESSAGE_BYTES, "Verdicts that the trainer should learn from."),
        Topic(DEAD_LETTERS, 1, "compact,delete", 30 * DAY, DEAD_LETTER_BYTES, "Messages that could not be handled."),
        Topic(PROMOTIONS, 1, "delete", None, MESSAGE_BYTES, "Models that were promoted or rolled back."),
    )
}

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group("intake", (UPLOADS, ORIGINALS), ("guard", "fingerprint", "lookup"), (INTAKES, VERDICTS)),
        Group("judge", (INTAKES,), ("route", "constrained", "unconstrained", "verdict"), (VERDICTS,)),
        Group("learn", (VERDICTS, REVIEWS), ("project", "hardcase"), (HARD_CASES, VERDICTS)),
    )
}
