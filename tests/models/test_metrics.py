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


LEVELS = np.array([[200, 200, 100, 0]], np.uint8)
TRUTH = np.array([[True, False, True, False]])


def test_counts_by_level_give_the_scores_of_any_threshold() -> None:
    counts = metrics.level_counts(LEVELS, TRUTH)
    assert counts.shape == (2, 256)
    assert counts[1, 200] == counts[0, 200] == counts[1, 100] == counts[0, 0] == 1
    for threshold in (0.0, 0.2, 0.5, 1.0):
        assert metrics.scores_at(counts, threshold) == metrics.mask_scores(LEVELS / 255.0, TRUTH, threshold)
    assert metrics.f1_by_level(counts)[[0, 100, 101, 200, 201]] == pytest.approx([2 / 3, 0.8, 0.5, 0.5, 0.0])


def test_random_counts_agree_with_the_mask_itself() -> None:
    rng = np.random.default_rng(0)
    levels, truth = rng.integers(0, 256, (30, 40), np.uint8), rng.random((30, 40)) < 0.3
    counts = metrics.level_counts(levels, truth)
    for level in (1, 77, 128, 255):
        expected = metrics.mask_scores(levels / 255.0, truth, level / 255.0)
        assert metrics.scores_at(counts, level / 255.0) == expected
        assert metrics.f1_by_level(counts)[level] == pytest.approx(expected.f1)
        assert metrics.flagged_by_level(counts)[level] == pytest.approx((levels >= level).mean())


def test_the_pixel_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((12, 15)) < 0.4
    levels = np.clip(rng.normal(100 + 40 * truth, 60), 0, 255).astype(np.uint8) // 16 * 16  # ties on purpose
    forged, authentic = levels[truth].astype(int), levels[~truth].astype(int)
    order = np.sign(forged[:, None] - authentic[None]) / 2.0 + 0.5
    assert metrics.pixel_auc(metrics.level_counts(levels, truth)) == pytest.approx(order.mean())
    assert np.isnan(metrics.pixel_auc(metrics.level_counts(levels, np.zeros_like(truth))))


def test_the_best_threshold_is_one_for_all_pictures() -> None:
    first = metrics.level_counts(np.array([[90, 60, 10, 10]], np.uint8), np.array([[True, False, False, False]]))
    second = metrics.level_counts(np.array([[70, 10, 10, 10]], np.uint8), np.array([[True, False, False, False]]))
    curves = np.stack([metrics.f1_by_level(counts) for counts in (first, second)])
    threshold, best = metrics.best_threshold(curves)
    assert best == 1.0
    assert 60 < threshold * 255 <= 70


def test_the_rate_at_a_false_alarm_rate_counts_positives_above_the_allowed_negatives() -> None:
    scores = np.array([*np.linspace(0.0, 0.99, 100), 0.985, 0.5, 1.0])
    positive = np.arange(103) >= 100
    assert metrics.tpr_at_fpr(scores, positive, 0.01) == pytest.approx(2 / 3)  # one of a hundred may lie above
    assert metrics.tpr_at_fpr(scores, positive, 0.0) == pytest.approx(1 / 3)
    assert metrics.tpr_at_fpr(scores, positive, 0.6) == 1.0
    assert np.isnan(metrics.tpr_at_fpr(scores[:100], positive[:100], 0.01))


def test_weights_make_the_calibration_error_that_of_balanced_classes() -> None:
    scores = np.full(5, 0.5)
    positive = np.array([True, False, False, False, False])
    weights = np.where(positive, 0.5, 0.125)
    assert metrics.calibration_error(scores, positive) == pytest.approx(0.3)
    assert metrics.calibration_error(scores, positive, weights=weights) == pytest.approx(0.0)


def test_the_ratios_interval_draws_pictures_in_pairs() -> None:
    theirs = np.random.default_rng(2).random(40)
    assert metrics.ratio_interval(2.0 * theirs, theirs) == pytest.approx((2.0, 2.0))
    low, high = metrics.ratio_interval(theirs[::-1].copy(), theirs)
    assert low < 1.0 < high
