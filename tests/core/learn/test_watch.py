"""When a version that was promoted is rolled back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.learn.watch import Decisions, Health, Limits, Traffic, trouble

USUAL = Decisions(count=200, manipulated=0.05, inconclusive=0.1, area=0.02)
WELL = Health(failures=0, traffic=Traffic(requests=100, errors=1, seconds=30.0), decisions=USUAL)


def since(**values: object) -> Health:
    return replace(WELL, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (WELL, None),
        (since(failures=2), None),
        (since(failures=3), "3 tries in a row got no answer"),
        (since(traffic=Traffic(100, 6, 30.0)), "6% of 100 requests failed"),
        (since(traffic=Traffic(29, 29, 30.0)), None),
        (since(traffic=Traffic(100, 0, 61.0)), "a request takes 0.61 s, 0.30 s before"),
        (since(decisions=replace(USUAL, manipulated=0.25)), "the share of manipulated went from 5% to 25%"),
        (since(decisions=replace(USUAL, inconclusive=0.3)), "the share of inconclusive went from 10% to 30%"),
        (since(decisions=replace(USUAL, area=0.2)), "the mean flagged area went from 2% to 20%"),
        (since(decisions=replace(USUAL, area=0.2, count=49)), None),
    ],
)
def test_only_what_goes_beyond_a_limit_is_a_reason(now: Health, why: str | None) -> None:
    said = trouble(WELL, now, Limits())
    assert said is None if why is None else said is not None and said.startswith(why)


def test_without_a_time_before_there_is_no_slower() -> None:
    nothing = replace(WELL, traffic=Traffic())
    assert trouble(nothing, since(traffic=Traffic(100, 0, 500.0)), Limits()) is None


def test_a_server_that_was_started_again_counts_from_nothing() -> None:
    assert Traffic(120, 3, 40.0).since(Traffic(100, 1, 30.0)) == Traffic(20, 2, 10.0)
    assert Traffic(7, 1, 2.0).since(Traffic(100, 1, 30.0)) == Traffic(7, 1, 2.0)
