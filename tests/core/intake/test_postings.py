"""Postings as bytes: what is packed is what comes out, in the order of the pictures."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.core.intake.postings import MOVED, Packed, Postings, merged, signed

posting = st.tuples(
    st.integers(-3, 3),
    st.one_of(st.integers(0, 6), st.integers(2**32 - 2, 2**32 + 2), st.integers(2**61, 2**62)),
    st.integers(0, 2**32 - 1),
)


def moved(postings: list[tuple[int, int, int]]) -> bytes:
    return np.array([(key, seq, int(signed(np.int64(place)))) for key, seq, place in postings], MOVED).tobytes()


def unpacked(lists: list[Packed]) -> list[tuple[int, int, int]]:
    postings = Postings.of(lists)
    keys = np.repeat([each.key for each in lists], postings.counts) if lists else []
    return list(zip(map(int, keys), postings.numbers.tolist(), postings.places.tolist(), strict=True))


@given(st.lists(posting), st.lists(posting))
def test_what_is_packed_in_two_rounds_comes_out_whole_and_in_order(
    first: list[tuple[int, int, int]], second: list[tuple[int, int, int]]
) -> None:
    there = {(each.key, each.epoch): each for each in merged({}, moved(first))}
    fresh = merged({at: each.postings for at, each in there.items()}, moved(second))
    lists = list((there | {(each.key, each.epoch): each for each in fresh}).values())
    found = unpacked(lists)
    assert sorted(found) == sorted(first + second)
    for each in lists:
        numbers = Postings.of([each]).numbers
        assert (np.diff(numbers) >= 0).all()
        assert {int(number) >> 32 for number in numbers} == {each.epoch}
    assert {each.key for each in fresh} == {key for key, *_ in second}


def test_each_list_tells_how_many_pictures_it_names() -> None:
    lists = merged({}, moved([(1, 7, 1), (1, 7, 2), (1, 9, 3), (2, 9, 4), (2, 9, 5)]))
    assert Postings.of(lists).pictures().tolist() == [2, 1]
    with_nothing = [Packed(0, 0, b""), lists[0], Packed(5, 0, b""), lists[1], Packed(6, 0, b"")]
    assert Postings.of(with_nothing).pictures().tolist() == [0, 2, 0, 1, 0]
    assert Postings.of([]).pictures().tolist() == []


def test_lists_can_be_read_more_than_once() -> None:
    postings = Postings.of(merged({}, moved([(1, 7, 1), (1, 9, 3), (2, 9, 4)])))
    assert postings.places[postings.repeated(np.array([1, 0, 1]))].tolist() == [4, 1, 3, 4]
    assert postings.repeated(np.zeros(0, np.int64)).tolist() == []
