"""Dead letters as values: which of them still wait, which one somebody names, and what a person may see of one.

In: the messages of the topic `dead-letters`, in order. Out: the letters that nobody redrove yet, and the original
message of one. Pure, so that `pentimento replay` and the dashboard do the very same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core import topology
from services.core.envelope import Message, Undecodable, decode
from services.core.events import DeadLetter

PREVIEW_BYTES = 4000
PREVIEW_STRING = 200  # characters of one string: inline images would fill the screen


@dataclass(slots=True)
class Waiting:
    """The letters that wait, as far as the topic was read. `strangers` are messages that are no dead letters."""

    letters: dict[bytes | None, DeadLetter] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)

    def add(self, message: Message) -> None:
        """One more message: a later one with the same key replaces a letter, a null value says that it was redriven."""
        self.letters.pop(message.key, None)
        if message.value is None:
            return
        try:
            self.letters[message.key] = decode(message, DeadLetter)
        except Undecodable as why:
            self.strangers.append(f"{message.topic}/{message.partition}/{message.offset}: {why}")

    def oldest_first(self) -> list[DeadLetter]:
        """All of them; of those of one moment always in the same order."""
        return sorted(self.letters.values(), key=lambda letter: (letter.failed_at, letter.key()))


def beginning(letters: Sequence[DeadLetter], letter_id: str) -> list[DeadLetter]:
    """The letters whose ids begin so."""
    return [letter for letter in letters if letter.key().startswith(letter_id.lower())]


def redriven(letter: DeadLetter) -> Message:
    """The original message of a dead letter, byte for byte, to be sent to its topic again with the same ids."""
    return Message(
        topic=letter.source_topic,
        key=letter.source_key,
        value=letter.source_value,
        headers=letter.source_headers,
    )


def settled(letter: DeadLetter) -> Message:
    """The null value that says of a letter that it was redriven."""
    return Message(topology.DEAD_LETTERS, letter.key().encode(), None)


def facts(letter: DeadLetter, *, whole: bool) -> dict[str, object]:
    """The letter as JSON values; `whole` adds the original message in base64."""
    original = {"source_key", "source_headers", "source_value"}
    return {"id": letter.key(), **letter.model_dump(mode="json", exclude=None if whole else original)}


def preview(value: bytes | None) -> str:
    """A message's value for people: JSON indented, long strings cut; other bytes as they are, as far as they print."""
    if value is None:
        return "(none: a tombstone)"
    try:
        return json.dumps(_cut(json.loads(value)), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        shown = value[:PREVIEW_BYTES].decode(errors="backslashreplace")
        return shown + (f"... ({len(value)} bytes)" if len(value) > PREVIEW_BYTES else "")


def _cut(value: object) -> object:
    """JSON with every long string shortened."""
    match value:
        case dict():
            return {key: _cut(each) for key, each in value.items()}
        case list():
            return [_cut(each) for each in value]
        case str() if len(value) > PREVIEW_STRING:
            return f"{value[:PREVIEW_STRING]}... ({len(value)} characters)"
        case _:
            return value
