"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import metrics


def test_a_half_right_mask_scores_as_its_counts_say() -> None:
    truth = np.array([[1, 1, 0, 0]], bool)
    scores = metrics.mask_scores(np.array([[0.9, 0.1, 0.7, 0.2]]), truth)
    assert (scores.precision, scores.recall, scores.f1) == (0.5, 0.5, 0.5)
    assert scores.iou == pytest.approx(1 / 3)


def test_an_empty_mask_is_right_only_where_nothing_is_forged() -> None:
    nothing = np.zeros((2, 2))
    assert metrics.mask_scores(nothing, np.zeros((2, 2), bool)).f1 == 1.0
    assert metrics.mask_scores(nothing, np.ones((2, 2), bool)).f1 == 0.0


def test_auc_is_one_for_a_perfect_order_and_half_for_ties() -> None:
    positive = np.array([False, False, True, True])
    assert metrics.auc(np.array([0.1, 0.2, 0.3, 0.4]), positive) == 1.0
    assert metrics.auc(np.array([0.4, 0.3, 0.2, 0.1]), positive) == 0.0
    assert metrics.auc(np.full(4, 0.5), positive) == 0.5
    assert np.isnan(metrics.auc(np.ones(2), np.ones(2, bool)))


def test_the_interval_holds_the_mean() -> None:
    values = np.linspace(0, 1, 50)
    low, high = metrics.interval(values)
    assert low < values.mean() < high


def test_scores_that_come_true_as_often_as_they_say_have_no_calibration_error() -> None:
    scores = np.repeat([0.25, 0.75], 4)
    positive = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    assert metrics.calibration_error(scores, positive) == pytest.approx(0.0)
    assert metrics.calibration_error(scores, ~positive) == pytest.approx(0.5)


def test_ranks_that_agree_correlate_fully_whatever_the_numbers() -> None:
    first = np.array([1.0, 5.0, 2.0, 9.0])
    assert metrics.rank_correlation(first, first**3) == pytest.approx(1.0)
    assert metrics.rank_correlation(first, -first) == pytest.approx(-1.0)
    assert metrics.rank_correlation(first, np.ones(4)) == 0.0


def test_tied_ranks_share_their_middle() -> None:
    assert metrics.rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(
        0.866, abs=1e-3
    )
