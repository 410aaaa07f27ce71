"""The measurement of freshness: on a stack of its own, and what its lines say."""

from __future__ import annotations

import pytest

from bench.freshness import Timed, lines, main

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine


@pytest.mark.slow  # a whole stack of its own; make bench-freshness is the same thing
def test_registered_originals_are_timed_until_a_search_finds_them_and_until_they_are_prepared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--count", "3", "--rate", "2"]) == 0, capsys.readouterr().err
    whole, parts = capsys.readouterr().out.splitlines()
    assert whole.startswith("registered -> findable, 3 originals at 2/s: p50 ")
    for figure in ("**p95 ", "p99 ", "longest ", "goal: < 2 s", "busy with other work"):
        assert figure in whole
    assert parts.startswith("registered -> findable by its parts, 3 originals at 2/s: p50 ")
    assert "/s prepared" in parts


def test_a_slow_minority_shows_in_the_percentiles_and_not_in_the_median() -> None:
    whole, _ = lines([Timed(0.1, 1.0)] * 90 + [Timed(5.0, 6.0)] * 10, 5.0, 0.25)
    assert "p50 0.10 s, **p95 5.00 s**" in whole
    assert "25% busy" in whole


def test_the_pace_of_preparing_is_that_from_the_first_original_to_the_last() -> None:
    """Ten at one a second, all of them prepared when 20 seconds had passed."""
    _, parts = lines([Timed(0.1, 20.0 - number) for number in range(10)], 1.0, 0.0)
    assert "0.5/s prepared" in parts
