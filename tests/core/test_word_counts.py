"""Which visual words are worth reading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from services.core.intake.word_counts import WordCounts, affordable

COUNTS = WordCounts(1000, 100, np.array([3, 7]), np.array([1, 40]))


def test_a_sample_says_how_many_postings_a_word_has_and_reading_ends_at_the_most() -> None:
    words = np.array([[3, 7], [5, 900]])
    assert COUNTS.expected(words, most=10_000).tolist() == [[10, 400], [5, 5]]
    assert COUNTS.expected(words, most=50).tolist() == [[10, 50], [5, 5]]


def test_an_empty_sample_says_that_nothing_costs_anything() -> None:
    empty = WordCounts(0, 0, np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert empty.expected(np.array([[1, 2]]), most=10).tolist() == [[0, 0]]


def test_the_rarest_words_are_read_first() -> None:
    assert affordable(np.array([[9.0, 1.0], [4.0, 2.0]]), 7).tolist() == [[False, True], [True, True]]


def test_one_word_is_read_whatever_it_takes() -> None:
    assert affordable(np.array([[9.0], [8.0]]), 1).tolist() == [[False], [True]]


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(0, 1e6)), st.floats(0, 1e6)
)
def test_what_is_read_can_be_afforded_and_nothing_cheaper_is_left_out(
    expected: np.ndarray[tuple[int, ...], np.dtype[np.float64]], budget: float
) -> None:
    chosen = affordable(expected, budget)
    assert chosen.sum() == 1 or expected[chosen].sum() <= budget * (1 + 1e-9)
    if not chosen.all():
        assert expected[chosen].max() <= expected[~chosen].min()
        assert expected[chosen].sum() + expected[~chosen].min() > budget or budget == pytest.approx(0)
