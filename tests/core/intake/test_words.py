"""Visual words: what agrees on one turn, scale and shift is told from what is shared by chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.core.errors import Rejected
from services.core.intake.words import MANY, SIDE, Shared, VisualWords, agreed, dealt, look, packed, words_of
from services.core.pixels import open_image, to_grey
from services.opening import open_vocabulary

VOCABULARY = open_vocabulary()
WINDMILL = Path(__file__).parents[3] / "samples" / "originals" / "windmill.jpg"


def of_places(points: np.ndarray, angles: np.ndarray, sizes: np.ndarray) -> VisualWords:
    count = len(points)
    return VisualWords("test", np.arange(count)[:, None], packed(points, angles, sizes))


def turned_and_halved(rng: np.random.Generator, count: int) -> tuple[VisualWords, VisualWords]:
    """Features of an object at 0.2-0.4, and the same in an upload: half as large, turned by 40 degrees, elsewhere."""
    points, angles = rng.uniform(0.2, 0.4, (count, 2)), rng.uniform(0, 360, count)
    sizes = np.exp2(rng.uniform(-7, -4, count))
    turn = np.radians(40.0)
    matrix = 0.5 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    there = (points - 0.3) @ matrix.T + np.array([0.7, 0.6])
    return of_places(points, angles, sizes), of_places(there, angles + 40.0, sizes / 2)


def test_an_object_outweighs_words_that_are_shared_by_chance() -> None:
    rng = np.random.default_rng(1)
    donor, upload = turned_and_halved(rng, 8)
    stranger = of_places(rng.uniform(0, 1, (40, 2)), rng.uniform(0, 360, 40), np.exp2(rng.uniform(-7, -4, 40)))
    features = rng.integers(0, 8, 40)
    shared = Shared(
        np.repeat([7, 3], [8, 40]),
        np.concatenate([np.arange(8), features]),
        np.concatenate([donor.places, stranger.places]),
        np.full(48, 0.5),
    )
    (first, weight), *others = agreed(upload, shared, most=5)
    assert (first, weight) == (7, pytest.approx(4.0))
    assert all(other < 2.5 for _, other in others)


def test_an_object_is_found_among_so_many_shared_words_that_most_pictures_are_left_out_first() -> None:
    rng = np.random.default_rng(4)
    donor, upload = turned_and_halved(rng, 8)
    numbers = 2**33 + rng.integers(0, 2**24, MANY)  # one word each, most of them
    places = packed(rng.uniform(0, 1, (MANY, 2)), rng.uniform(0, 360, MANY), np.exp2(rng.uniform(-7, -4, MANY)))
    shared = Shared(
        np.concatenate([numbers, np.full(8, 7)]),
        np.concatenate([rng.integers(0, 8, MANY), np.arange(8)]),
        np.concatenate([places, donor.places]),
        np.full(MANY + 8, 0.5),
    )
    (first, weight), *others = agreed(upload, shared, most=5)
    assert (first, weight) == (7, pytest.approx(4.0))
    assert all(other < 2.5 for _, other in others)


def test_one_word_alone_is_no_agreement() -> None:
    donor, upload = turned_and_halved(np.random.default_rng(2), 1)
    shared = Shared(np.array([5]), np.array([0]), donor.places, np.ones(1))
    assert agreed(upload, shared, most=5) == []


def test_a_place_that_is_there_for_many_features_counts_once() -> None:
    """A repeated pattern: one place of the original matches every feature of the upload."""
    donor, upload = turned_and_halved(np.random.default_rng(3), 6)
    shared = Shared(np.full(6, 5), np.arange(6), np.repeat(donor.places[:1], 6), np.ones(6))
    assert agreed(upload, shared, most=5) == []


def test_nothing_shared_is_nothing_found() -> None:
    nothing = np.zeros(0, np.int64)
    assert agreed(VisualWords("test", nothing[:, None], nothing), Shared(*[nothing] * 3, np.zeros(0)), most=5) == []


def test_a_recompressed_half_of_a_picture_keeps_many_of_its_words() -> None:
    grey = to_grey(open_image(WINDMILL.read_bytes(), max_side=SIDE).rgb)
    whole, half = look(grey, VOCABULARY), look(np.ascontiguousarray(grey[:, : grey.shape[1] // 2]), VOCABULARY)
    assert len(np.intersect1d(whole.words[:, 0], half.words)) > 0.3 * len(half.words)


def test_words_are_numbers_of_the_vocabulary_and_the_same_again() -> None:
    words = words_of(WINDMILL.read_bytes(), VOCABULARY, most=50)
    assert words.words.shape == (50, 2)
    assert words.words.min() >= 0
    assert words.words.max() < VOCABULARY.size
    more = words_of(WINDMILL.read_bytes(), VOCABULARY, most=100)
    assert len(np.intersect1d(words.places, more.places)) > 40


def test_features_are_dealt_from_all_over_a_picture_the_strongest_of_each_field_first() -> None:
    busy = np.column_stack([np.linspace(0.0, 0.1, 50), np.full(50, 0.1)])
    quiet = np.array([[0.9, 0.9], [0.92, 0.9]])
    strengths = np.concatenate([np.linspace(2.0, 1.0, 50), [0.1, 0.2]])
    order = dealt(np.concatenate([busy, quiet]), strengths)
    assert order[:4].tolist() == [0, 51, 1, 50]
    assert sorted(order) == list(range(52))


def test_a_flat_picture_has_no_words() -> None:
    assert look(np.full((200, 300), 128, np.uint8), VOCABULARY).words.shape == (0, 2)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(Rejected):
        words_of(b"no picture", VOCABULARY)
