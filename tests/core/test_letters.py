"""Which dead letters wait, as the messages of their topic tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.core import topology
from services.core.envelope import Message, encode
from services.core.events import DeadLetter
from services.core.letters import Waiting, beginning, redriven, settled

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def letter(offset: int, minutes: int = 0) -> DeadLetter:
    return DeadLetter(
        source_topic=topology.UPLOADS, source_partition=0, source_offset=offset, source_key=b"k", source_value=b"\x00",
        source_headers=(("ce_id", b"1"),), group="intake", stage="intake/image-uploads", kind="broken",
        error_type="ValueError", message="", attempts=1, failed_at=NOON + timedelta(minutes=minutes),
    )  # fmt: skip


def sent(each: DeadLetter) -> Message:
    return encode(each, source="/test", time=NOON)


def waiting(*messages: Message) -> Waiting:
    found = Waiting()
    for message in messages:
        found.add(message)
    return found


def test_a_letter_waits_until_its_null_value_says_that_it_was_redriven() -> None:
    first, second = letter(1, minutes=5), letter(2)
    assert waiting(sent(first), sent(second)).oldest_first() == [second, first]
    assert waiting(sent(first), sent(second), settled(first)).oldest_first() == [second]


def test_a_message_that_fails_again_is_the_same_letter_anew() -> None:
    again = letter(1, minutes=9)
    assert waiting(sent(letter(1)), settled(letter(1)), sent(again)).oldest_first() == [again]


def test_what_is_no_dead_letter_is_named_and_passed_over() -> None:
    found = waiting(Message(topology.DEAD_LETTERS, b"x", b"{}", (), 0, 7), sent(letter(1)))
    assert [each.startswith("dead-letters/0/7: ") for each in found.strangers] == [True]
    assert len(found.oldest_first()) == 1


def test_the_original_message_is_sent_byte_for_byte() -> None:
    message = redriven(letter(1))
    assert (message.topic, message.key, message.value) == (topology.UPLOADS, b"k", b"\x00")
    assert message.headers == (("ce_id", b"1"),)


def test_a_letter_is_named_by_the_beginning_of_its_id_in_any_case() -> None:
    one = letter(1)
    assert beginning([one, letter(2)], one.key()[:12].upper()) == [one]
