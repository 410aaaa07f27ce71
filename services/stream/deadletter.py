"""Dead letters: when a message counts as undeliverable, and when there are too many of them.

In: outcomes of messages. Out: `DeadLetter` events, and the order to stop. The limit is per worker and topic: a
stream in which most messages fail has a cause that dead-lettering everything would only hide (a habit of Arroyo's).
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Literal

from services.core.envelope import Message, Undecodable
from services.core.errors import Rejected, Unavailable
from services.core.events import DeadLetter

Kind = Literal["undecodable", "rejected", "unavailable", "broken"]
WINDOW = 100  # messages over which the share is taken
LEAST_SEEN = 20  # no share before so many messages


class Limit:
    """Counts outcomes and says when to stop: too many dead letters in a row, or too large a share of late."""

    def __init__(self, *, share: float, run: int) -> None:
        self._share = share
        self._run = run
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=WINDOW)

    def succeeded(self) -> None:
        """A message was handled."""
        self._in_a_row = 0
        self._recent.append(False)

    def exceeded_by_one_more(self) -> str | None:
        """Counts one more dead letter. The reason to stop instead, if that is one too many."""
        self._in_a_row += 1
        self._recent.append(True)
        if self._in_a_row > self._run:
            return f"{self._in_a_row} messages in a row could not be handled (limit {self._run})"
        failed = sum(self._recent)
        if len(self._recent) >= LEAST_SEEN and failed > self._share * len(self._recent):
            return f"{failed} of the last {len(self._recent)} messages could not be handled (limit {self._share:.0%})"
        return None


def kind_of(error: BaseException) -> Kind:
    """Which kind of dead letter an error makes."""
    match error:
        case Undecodable():
            return "undecodable"
        case Rejected():
            return "rejected"
        case Unavailable():
            return "unavailable"
        case _:
            return "broken"


def dead_letter(
    message: Message, error: BaseException, *, group: str, attempts: int, upload_id: str | None, now: datetime
) -> DeadLetter:
    """The dead letter of a message: its original bytes, where it stood, and why it could not be handled."""
    return DeadLetter(
        source_topic=message.topic,
        source_partition=message.partition,
        source_offset=message.offset,
        source_key=message.key,
        source_headers=message.headers,
        source_value=message.value,
        group=group,
        stage=f"{group}/{message.topic}",
        kind=kind_of(error),
        error_type=type(error).__name__,
        message=str(error)[:2000],
        attempts=attempts,
        upload_id=upload_id,
        failed_at=now,
    )
