"""The circuit breaker and the retry budget, with a clock that tests turn by hand."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.clients.breaker import Breaker, Circuit
from services.clients.retries import RetryBudget
from services.core.errors import Rejected, Unavailable

DOWN = Unavailable("models", "away")


class HandClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_breaker(clock: HandClock, changes: list[Circuit] | None = None) -> Breaker:
    listen = changes.append if changes is not None else lambda _circuit: None
    return Breaker("models", failures=3, open_s=5.0, clock=clock, on_change=listen)


def state(breaker: Breaker) -> Circuit:
    """The circuit now. A call, because a type checker takes a property for unchanged between two looks."""
    return breaker.circuit


async def fail(breaker: Breaker) -> None:
    with pytest.raises(Unavailable, match="away"), await breaker.allow():
        raise DOWN


async def opened(clock: HandClock, changes: list[Circuit] | None = None) -> Breaker:
    breaker = a_breaker(clock, changes)
    for _ in range(3):
        await fail(breaker)
    return breaker


async def test_failures_in_a_row_open_the_circuit_and_it_says_when_to_come_back() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 2
    assert state(breaker) is Circuit.OPEN
    with pytest.raises(Unavailable, match="3 failures in a row") as refused:
        await breaker.allow()
    assert refused.value.retry_after_s == pytest.approx(3.0)
    assert refused.value.dependency == "models"


async def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    breaker = a_breaker(HandClock())
    for _ in range(5):
        await fail(breaker)
        await fail(breaker)
        with await breaker.allow():
            pass
    assert state(breaker) is Circuit.CLOSED


async def test_a_rejected_image_counts_as_an_answer() -> None:
    breaker = a_breaker(HandClock())
    for _ in range(4):
        with pytest.raises(Rejected), await breaker.allow():
            raise Rejected("corrupt", "cannot be decoded")
    assert state(breaker) is Circuit.CLOSED


async def test_only_one_probe_is_let_through_and_its_success_closes_the_circuit() -> None:
    clock = HandClock()
    changes: list[Circuit] = []
    breaker = await opened(clock, changes)
    clock.now += 5
    assert state(breaker) is Circuit.HALF_OPEN
    with await breaker.allow():
        with pytest.raises(Unavailable) as refused:
            await breaker.allow()
        assert refused.value.retry_after_s == 1.0
    assert state(breaker) is Circuit.CLOSED
    assert changes == [Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED]


async def test_a_failed_probe_opens_the_circuit_for_the_full_time_again() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 7
    await fail(breaker)
    clock.now += 4.9
    assert state(breaker) is Circuit.OPEN
    clock.now += 0.2
    assert state(breaker) is Circuit.HALF_OPEN


async def test_a_cancelled_probe_gives_its_place_to_another() -> None:
    clock = HandClock()
    breaker = await opened(clock)
    clock.now += 5
    with pytest.raises(asyncio.CancelledError), await breaker.allow():
        raise asyncio.CancelledError
    with await breaker.allow():
        pass
    assert state(breaker) is Circuit.CLOSED


async def test_news_of_calls_from_before_the_circuit_opened_changes_nothing() -> None:
    clock = HandClock()
    breaker = a_breaker(clock)
    early_success, early_failure = await breaker.allow(), await breaker.allow()
    for _ in range(3):
        await fail(breaker)
    clock.now += 4
    with early_success:
        pass
    with pytest.raises(Unavailable), early_failure:
        raise DOWN
    assert state(breaker) is Circuit.OPEN
    clock.now += 1
    assert state(breaker) is Circuit.HALF_OPEN


@given(share=st.floats(0, 1), requests=st.integers(0, 300), tries=st.integers(0, 400))
def test_retries_never_exceed_their_share_of_the_requests_plus_the_first(
    share: float, requests: int, tries: int
) -> None:
    budget = RetryBudget(share)
    for _ in range(requests):
        budget.request()
    granted = sum(budget.pause(0) is not None for _ in range(tries))
    assert granted <= share * requests + (1 if share > 0 else 0) + 1e-6
    assert granted <= 10


def test_without_a_share_nothing_is_retried() -> None:
    budget = RetryBudget(0.0)
    for _ in range(100):
        budget.request()
    assert budget.pause(0) is None


def test_pauses_double_up_to_the_longest_and_are_a_random_part_of_that() -> None:
    budget = RetryBudget(1.0, first_s=0.1, longest_s=0.5, chance=lambda: 0.5)
    for _ in range(10):
        budget.request()
    assert [budget.pause(retry) for retry in range(4)] == pytest.approx([0.05, 0.1, 0.2, 0.25])
