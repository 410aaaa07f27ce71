"""Counts over time, laid out for a chart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from services.core.series import columns, series

NOON = datetime(2026, 11, 22, 12, 34, 56, tzinfo=UTC)
HOURS = columns(NOON, every="hour", count=3)


def test_columns_end_with_the_hour_or_day_that_it_is() -> None:
    assert [start.hour for start in HOURS] == [10, 11, 12]
    assert columns(NOON, every="day", count=2) == (
        datetime(2026, 11, 21, tzinfo=UTC),
        datetime(2026, 11, 22, tzinfo=UTC),
    )


def test_days_are_those_of_utc_wherever_the_clock_stands() -> None:
    late = NOON.astimezone(timezone(timedelta(hours=13)))
    assert columns(late, every="day", count=1) == (datetime(2026, 11, 22, tzinfo=UTC),)


def test_holes_are_zeros_and_known_kinds_keep_their_order() -> None:
    laid = series([(HOURS[2], "b", 4), (HOURS[0], "b", 1)], HOURS, ["a", "b"])
    assert laid.values == {"a": (0, 0, 0), "b": (1, 0, 4)}
    assert list(laid.values) == ["a", "b"]


def test_beyond_so_many_kinds_the_small_ones_are_one_other() -> None:
    counted = [(HOURS[0], f"tenant-{number}", number) for number in range(1, 6)]
    laid = series(counted, HOURS, [], most=2)
    assert list(laid.values) == ["tenant-5", "tenant-4", "other"]
    assert laid.values["other"] == (6, 0, 0)


@given(st.lists(st.tuples(st.sampled_from(HOURS), st.sampled_from("abcdefghijkl"), st.integers(0, 99)), max_size=30))
def test_nothing_is_lost_in_laying_it_out(counted: list[tuple[datetime, str, int]]) -> None:
    assert series(counted, HOURS, ["a"]).total == sum(number for _, _, number in counted)
