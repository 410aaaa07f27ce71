"""Earlier uploads that share words with a late original: enough that agree, in an index of any size."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.intake.earlier import LEAST_WORDS, worth_looking
from services.core.intake.words import Shared, VisualWords
from tests.core.intake.test_words import turned_and_halved

ENOUGH = int(np.ceil(LEAST_WORDS))


def sharing(counts: dict[int, int], weight: float) -> tuple[VisualWords, Shared]:
    """An original, and uploads by their number that hold so many of its words, at places that agree."""
    original, part = turned_and_halved(np.random.default_rng(5), max(counts.values()))
    return original, Shared(
        np.repeat(list(counts), list(counts.values())),
        np.concatenate([np.arange(count) for count in counts.values()]),
        np.concatenate([part.places[:count] for count in counts.values()]),
        np.full(sum(counts.values()), weight),
    )


@pytest.mark.parametrize("weight", [1.0, 0.01])  # of a small index, and of one with ten thousand uploads to a word
def test_uploads_with_enough_words_that_agree_are_worth_a_look_the_surest_first(weight: float) -> None:
    original, shared = sharing({7: ENOUGH, 8: ENOUGH - 1, 9: ENOUGH + 5}, weight)
    assert worth_looking(original, shared, most=5) == [9, 7]
    assert worth_looking(original, shared, most=1) == [9]


def test_an_original_that_shares_nothing_finds_nothing() -> None:
    original, _ = sharing({7: ENOUGH}, 1.0)
    nothing = np.zeros(0, np.int64)
    assert worth_looking(original, Shared(nothing, nothing, nothing, np.zeros(0)), most=5) == []
