"""The token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.core.pace import Pace, full, take

steps = st.lists(st.floats(0, 5), min_size=1, max_size=200)


@given(steps, st.floats(0.1, 50), st.floats(1, 100))
def test_nobody_gets_more_than_the_burst_and_the_pace_allow(pauses: list[float], per_s: float, burst: float) -> None:
    pace = Pace(per_s, burst)
    bucket, now, served = full(pace, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken = take(bucket, pace, now)
        bucket, served = taken.bucket, served + taken.fits
        assert served <= burst + per_s * now + 1e-6
        assert 0 <= bucket.left <= burst


@given(st.floats(0.1, 50), st.floats(1, 100))
def test_whoever_waits_as_long_as_they_are_told_is_served(per_s: float, burst: float) -> None:
    pace = Pace(per_s, burst)
    bucket = full(pace, 0.0)
    while (taken := take(bucket, pace, 0.0)).fits:
        bucket = taken.bucket
    assert take(taken.bucket, pace, taken.wait_s + 1e-6).fits
    assert take(taken.bucket, pace, taken.full_s + 1e-6).bucket.left >= burst - 1.001


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    pace = Pace(1.0, 2.0)
    first = take(full(pace, 100.0), pace, 100.0)
    assert take(first.bucket, pace, 50.0).bucket.left == 0.0
