"""The measurement of freshness: on a stack of its own, and what its line says."""

from __future__ import annotations

import pytest

from bench.freshness import line, main

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine


@pytest.mark.slow  # a whole stack of its own; make bench-freshness is the same thing
def test_registered_originals_are_timed_until_a_search_finds_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count", "3", "--rate", "2"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert said.startswith("registered -> findable, 3 originals at 2/s: p50 ")
    for figure in ("**p95 ", "p99 ", "longest ", "goal: < 2 s", "busy with other work"):
        assert figure in said


def test_a_slow_minority_shows_in_the_percentiles_and_not_in_the_median() -> None:
    said = line([0.1] * 90 + [5.0] * 10, 5.0, 0.25)
    assert "p50 0.10 s, **p95 5.00 s**" in said
    assert "25% busy" in said
