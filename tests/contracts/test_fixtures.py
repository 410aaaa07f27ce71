"""Messages as they were, and are, on the wire: every one must still be read, and match the published schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from services.core.envelope import TYPES, Message, Undecodable, decode, encode
from services.core.events import EVENTS, Event
from services.core.examples import EXAMPLES
from services.core.schemas import json_schema

FIXTURES = Path(__file__).parent / "fixtures"
OURS = "/pentimento"


@dataclass(frozen=True)
class Fixture:
    """One recorded message. `event_id` and `key` are what our code must derive from its value, today and later."""

    name: str
    event: type[Event]
    event_id: str
    key: str
    headers: dict[str, str]
    value: dict[str, Any]

    def message(self) -> Message:
        headers = tuple((name, text.encode()) for name, text in self.headers.items())
        return Message(self.event.topic, self.key.encode(), json.dumps(self.value).encode(), headers)


def _fixtures() -> Iterator[Fixture]:
    for path in sorted(FIXTURES.glob("*/*/*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        event = TYPES[path.parent.name]
        name = f"{path.parent.parent.name}/{event.__name__}/{path.stem}"
        yield Fixture(name, event, data["event_id"], data["key"], data["headers"], data["value"])


ALL = list(_fixtures())
every_fixture = pytest.mark.parametrize("fixture", ALL, ids=[fixture.name for fixture in ALL])
every_event = pytest.mark.parametrize("event", EVENTS, ids=[event.__name__ for event in EVENTS])


@every_event
def test_every_event_has_several_fixtures(event: type[Event]) -> None:
    assert len([fixture for fixture in ALL if fixture.event is event]) >= 3


@every_fixture
def test_a_recorded_message_is_decoded_with_the_same_id_and_key(fixture: Fixture) -> None:
    event = decode(fixture.message(), fixture.event)
    assert (event.event_id(), event.key()) == (fixture.event_id, fixture.key)


@every_fixture
def test_a_recorded_message_matches_the_published_schema(fixture: Fixture) -> None:
    _validator(fixture.event).validate(fixture.value)


@every_fixture
def test_a_decoded_message_survives_the_way_out_and_back(fixture: Fixture) -> None:
    event = decode(fixture.message(), fixture.event)
    sent = encode(event, source=OURS, time=EXAMPLES_TIME, trace={"traceparent": TRACEPARENT, "other": "x"})
    assert decode(sent, fixture.event) == event
    assert sent.header("traceparent") == TRACEPARENT.encode()
    assert [name for name, _ in sent.headers].count("traceparent") == 1
    assert sent.header("other") is None
    assert sent.value is not None
    _validator(fixture.event).validate(json.loads(sent.value))


@every_fixture
def test_our_own_recorded_messages_carry_cloudevents_headers(fixture: Fixture) -> None:
    if fixture.headers.get("ce_source") != OURS:
        assert "ce_id" not in fixture.headers or fixture.headers["ce_id"] != fixture.event_id
        return
    assert fixture.headers["ce_specversion"] == "1.0"
    assert fixture.headers["ce_type"] == fixture.event.ce_type
    assert fixture.headers["ce_id"] == fixture.event_id
    assert fixture.headers["ce_subject"] == fixture.key
    assert fixture.headers["content-type"] == "application/json"


@pytest.mark.parametrize("ce_type", EXAMPLES)
def test_every_example_matches_its_schema(ce_type: str) -> None:
    _validator(TYPES[ce_type]).validate(json.loads(EXAMPLES[ce_type].to_bytes()))


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("ImageUploaded", {"upload_id": ""}),
        ("ImageUploaded", {"upload_id": "a\nb"}),
        ("ImageUploaded", {"upload_id": None}),
        ("ImageUploaded", {"tenant": "../other"}),
        ("ImageUploaded", {"image": {"object_key": "no-kind"}}),
        ("ImageUploaded", {"image": {"kind": "ftp", "url": "ftp://x"}}),
        ("ImageUploaded", {"sha256": "ABC"}),
        ("VerdictReached", {"decision": "authentic"}),
        ("VerdictReached", {"score": 1.01}),
        ("VerdictReached", {"reasons": []}),
        ("VerdictReached", {"revision": -1}),
        ("HardCaseFound", {"reasons": ["felt_like_it"]}),
    ],
)
def test_a_wrong_message_is_refused_by_schema_and_decoder_alike(event: str, change: dict[str, Any]) -> None:
    kind = next(each for each in EVENTS if each.__name__ == event)
    value = {**json.loads(EXAMPLES[kind.ce_type].to_bytes()), **change}
    assert not _validator(kind).is_valid(value)
    with pytest.raises(Undecodable):
        decode(Message(kind.topic, b"k", json.dumps(value).encode()), kind)


def test_a_time_without_a_zone_is_refused() -> None:
    uploaded = EVENTS[0]
    value = {**json.loads(EXAMPLES[uploaded.ce_type].to_bytes()), "uploaded_at": "2026-11-22T12:00:00"}
    with pytest.raises(Undecodable, match="uploaded_at"):
        decode(Message(uploaded.topic, b"k", json.dumps(value).encode()), uploaded)


def test_an_event_of_another_type_is_refused_by_its_header() -> None:
    verdict = next(fixture for fixture in ALL if fixture.event.__name__ == "VerdictReached")
    with pytest.raises(Undecodable, match="ce_type"):
        decode(verdict.message(), TYPES["dev.pentimento.image.uploaded.v1"])


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
EXAMPLES_TIME = EXAMPLES["dev.pentimento.verdict.reached.v1"].judged_at  # type: ignore[attr-defined]


def _validator(event: type[Event]) -> Draft202012Validator:
    schema = json_schema(event)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())
