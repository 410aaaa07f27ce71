"""The rules of webhooks: signatures as the specification has them, and what follows from an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.webhooks import (
    LONGEST_HOLD_S,
    LONGEST_RETRY_AFTER_S,
    Announced,
    Attempt,
    Delivered,
    EventKind,
    GivenUp,
    Later,
    Outcome,
    Retries,
    body,
    headers,
    outcome,
    pause_s,
    secret_from,
    signature,
)

RETRIES = Retries()
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def after(attempt: Attempt, **facts: float) -> Outcome:
    given_facts = {"attempts": 1, "age_s": 1.0, "failures": 0, "chance": 0.5, **facts}
    return outcome(
        attempt,
        attempts=int(given_facts["attempts"]),
        age_s=given_facts["age_s"],
        failures=int(given_facts["failures"]),
        chance=given_facts["chance"],
        retries=RETRIES,
    )


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    """The example that the specification's libraries are tested with."""
    signed = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_valid_secret_signs() -> None:
    first, second = secret_from(b"a" * 32), secret_from(b"b" * 32)
    sent = headers("id-1", b"{}", secrets=[first, second], at=NOON)
    assert sent["webhook-signature"].split(" ") == [
        signature(first, "id-1", int(NOON.timestamp()), b"{}"),
        signature(second, "id-1", int(NOON.timestamp()), b"{}"),
    ]
    assert sent["webhook-timestamp"] == str(int(NOON.timestamp()))


@pytest.mark.parametrize("size", [0, 23, 65])
def test_a_secret_that_is_too_short_or_too_long_is_none(size: int) -> None:
    with pytest.raises(ValueError, match="24 to 64"):
        secret_from(b"x" * size)


def test_what_is_no_secret_signs_nothing() -> None:
    with pytest.raises(ValueError, match="no webhook secret"):
        signature("whsec_ä", "id", 1, b"")


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_the_body_is_a_cloudevent_with_the_event_in_it(subject: str, data: dict[str, str]) -> None:
    event = Announced(EventKind.PING, "id-1", "acme", subject, NOON, json.dumps(data))
    parsed = json.loads(body(event, source="/p"))
    assert parsed["data"] == data
    assert (parsed["specversion"], parsed["subject"], parsed["time"]) == ("1.0", subject, NOON.isoformat())


def test_any_2xx_is_delivered_and_anything_else_is_not() -> None:
    assert all(isinstance(after(Attempt(code, 1)), Delivered) for code in (200, 201, 202, 204, 299))
    assert all(isinstance(after(Attempt(code, 1)), Later) for code in (100, 301, 307, 400, 401, 404, 422, 429, 500))
    assert isinstance(after(Attempt(None, 1, "no answer")), Later)


def test_410_is_the_end_however_young_the_delivery_is() -> None:
    assert after(Attempt(410, 1)) == GivenUp("gone", gone=True)


def test_a_delivery_is_given_up_when_it_is_a_day_old() -> None:
    assert isinstance(after(Attempt(500, 1), age_s=86_399), Later)
    assert after(Attempt(500, 1), age_s=86_400) == GivenUp("status")
    assert after(Attempt(None, 1), age_s=86_400) == GivenUp("no_answer")
    assert isinstance(after(Attempt(200, 1), age_s=10**6), Delivered)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_grow_to_their_limit_and_vary_by_a_quarter(attempts: int, chance: float) -> None:
    pause = pause_s(attempts, chance, RETRIES)
    middle = min(RETRIES.longest_s, RETRIES.first_s * 2 ** min(attempts - 1, 30))
    assert 0.75 * middle <= pause <= 1.25 * middle


def test_a_day_has_about_seventeen_tries() -> None:
    age, tries = 0.0, 1
    while age < RETRIES.give_up_s:
        age, tries = age + pause_s(tries, 0.5, RETRIES), tries + 1
    assert 15 <= tries <= 19


def test_retry_after_is_heeded_and_holds_the_receiver_where_it_is_about_all_of_it() -> None:
    busy = after(Attempt(429, 1, retry_after_s=600))
    assert isinstance(busy, Later)
    assert busy.after_s == busy.hold_s == 600
    odd = after(Attempt(500, 1, retry_after_s=600))
    assert isinstance(odd, Later)
    assert (odd.after_s, odd.hold_s) == (600, 0)
    endless = after(Attempt(503, 1, retry_after_s=1e12))
    assert isinstance(endless, Later)
    assert endless.hold_s == LONGEST_RETRY_AFTER_S


def test_a_receiver_that_fails_again_and_again_is_asked_rarely_but_at_least_every_minute() -> None:
    holds = []
    for failures in range(40):
        result = after(Attempt(500, 1), failures=failures)
        assert isinstance(result, Later)
        holds.append(result.hold_s)
    assert holds[:4] == [0, 0, 0, 0]
    assert holds == sorted(holds)
    assert holds[-1] == LONGEST_HOLD_S
