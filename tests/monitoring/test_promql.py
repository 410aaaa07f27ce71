"""The reader of PromQL: names out of expressions, and refusals of what cannot be one."""

from __future__ import annotations

import pytest

from deploy.monitoring.promql import Names, names


def test_metrics_and_labels_of_an_expression_are_told_apart() -> None:
    found = names('sum by (topic) (rate(messages_total{outcome!="handled"}[5m])) / on (topic) lag > 1e3')
    assert found == Names(frozenset({"messages_total", "lag"}), frozenset({"topic", "outcome"}))


def test_grouping_after_the_aggregation_and_grafanas_variables_are_understood() -> None:
    found = names('max(rate(seconds_bucket{le="60.0"}[$__rate_interval])) by (le) or vector(0) unless on () up == 0')
    assert found == Names(frozenset({"seconds_bucket", "up"}), frozenset({"le"}))


def test_a_metric_whose_name_holds_a_function_is_a_metric() -> None:
    assert names("rate_total + slo:errors:ratio_rate5m").metrics == {"rate_total", "slo:errors:ratio_rate5m"}


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("rates(messages_total[5m])", "unknown function rates"),
        ("sum(rate(messages_total[5m])", "not closed"),
        ("sum(rate(messages_total[5m)])", "closes nothing"),
        ("messages_total > 5 ; drop", "no PromQL"),
        ("quantil(0.9, x)", "unknown function quantil"),
    ],
)
def test_what_cannot_be_promql_is_refused(expression: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        names(expression)
