"""The quality evaluation score of soft masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from services.core.learn.qes import qes

masks = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(0.0, 1.0))


@given(masks)
def test_qes_is_a_share(mask: np.ndarray) -> None:
    assert 0.0 <= qes(mask) <= 1.0


@given(masks)
def test_qes_follows_its_definition(mask: np.ndarray) -> None:
    assert qes(mask) == pytest.approx((mask > 15 / 16).sum() / ((mask > 1 / 16).sum() + 1e-8))


@given(masks)
def test_qes_does_not_depend_on_where_pixels_are(mask: np.ndarray) -> None:
    assert qes(mask[::-1, ::-1].T) == qes(mask)


@given(masks)
def test_hardening_a_mask_never_lowers_its_qes(mask: np.ndarray) -> None:
    assert qes((mask > 0.5).astype(float)) >= qes(mask) or not (mask > 0.5).any()


def test_an_empty_mask_scores_zero_and_a_hard_one_nearly_one() -> None:
    assert qes(np.zeros((8, 8))) == 0.0
    assert qes(np.ones((8, 8))) == pytest.approx(1.0)


def test_eight_bit_masks_are_read_as_probabilities() -> None:
    levels = np.array([[0, 15, 16, 239, 240, 255]], dtype=np.uint8)
    assert qes(levels) == pytest.approx(qes(levels / 255.0))
    assert qes(levels) == pytest.approx(2 / 4)


def test_a_mask_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        qes(np.zeros((2, 2), np.int64))
