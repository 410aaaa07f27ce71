"""Postings of visual words as bytes: for each word the pictures that have it, and where, as the index keeps them.

In: numbers of pictures and places. Out: bytes, or numbers again. A posting takes 8 bytes: the lower half of the
picture's number, and the place; the upper half, the epoch, stands once beside all postings of a word. They lie in the
order of the numbers, so that those of one picture are found by halving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

EPOCH_BITS: Final = 32
POSTING: Final = np.dtype([("low", ">u4"), ("place", ">i4")])
MOVED: Final = np.dtype([("key", ">i8"), ("seq", ">i8"), ("place", ">i4")])
"""A posting that stands alone, as the database sends it."""

_SIGN: Final = 2**31  # places are unsigned here and signed in the database


@dataclass(frozen=True, slots=True)
class Packed:
    """Postings of the word `key` whose pictures' numbers have the upper half `epoch`."""

    key: int
    epoch: int
    postings: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """Of `lists` of postings, one after the other: the pictures' `numbers` [M], the `places` [M], unsigned, and how
    many there are of each list, `counts` [L]."""

    numbers: Integers
    places: Integers
    counts: Integers

    @classmethod
    def of(cls, lists: Sequence[Packed]) -> Postings:
        """What is packed in the lists."""
        entries = np.frombuffer(b"".join(each.postings for each in lists), POSTING)
        counts = np.array([len(each.postings) // POSTING.itemsize for each in lists], np.int64)
        epochs = np.array([each.epoch for each in lists], np.int64) << EPOCH_BITS
        numbers = entries["low"].astype(np.int64)
        if epochs.any():
            numbers += np.repeat(epochs, counts)
        return cls(numbers, entries["place"].astype(np.int64) + _SIGN, counts)

    def pictures(self) -> Integers:
        """[L] how many pictures each list names. In a list those of one picture stand together."""
        if not len(self.numbers):
            return np.zeros_like(self.counts)
        ends = np.cumsum(self.counts)
        first = np.ones(len(self.numbers), np.int64)
        first[1:] = self.numbers[1:] != self.numbers[:-1]
        first[(ends - self.counts)[self.counts > 0]] = 1
        summed = np.concatenate([[0], np.cumsum(first)])
        return np.asarray(summed[ends] - summed[ends - self.counts], np.int64)

    def repeated(self, lists: Integers) -> Integers:
        """Rows of the postings of these `lists` [K], one list after the other; a list may be asked for repeatedly."""
        counts = self.counts[lists]
        starts = (np.cumsum(self.counts) - self.counts)[lists]
        return np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())


def signed(places: Integers) -> Integers:
    """Places as the database has them."""
    return np.asarray(places - _SIGN, np.int64)


def merged(there: Mapping[tuple[int, int], bytes], moved: bytes) -> list[Packed]:
    """Lists with what was moved to them, in the order of their keys. `there` are their postings by key and epoch;
    `moved` has postings of the type `MOVED`, in any order."""
    rows = np.frombuffer(moved, MOVED)
    if not len(rows):
        return []
    keys, numbers = rows["key"].astype(np.int64), rows["seq"].astype(np.int64)
    order = np.lexsort((numbers, keys))
    keys, numbers = keys[order], numbers[order]
    entries = np.empty(len(rows), POSTING)
    entries["low"] = numbers & (2**EPOCH_BITS - 1)
    entries["place"] = rows["place"][order]
    epochs = numbers >> EPOCH_BITS
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1) | np.diff(epochs, prepend=epochs[:1]))
    ends = np.append(starts[1:], len(keys))
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        list_of = int(keys[start]), int(epochs[start])
        fresh = entries[start:end]
        found.append(Packed(*list_of, _together(there.get(list_of, b""), fresh)))
    return found


def _together(before: bytes, fresh: npt.NDArray[np.void]) -> bytes:
    """Postings of one list in order. What is fresh mostly comes last."""
    old = np.frombuffer(before, POSTING)
    if not len(old) or old["low"][-1] <= fresh["low"][0]:
        return before + fresh.tobytes()
    both = np.concatenate([old, fresh], dtype=POSTING)  # else in this machine's order of bytes
    return bytes(both[np.argsort(both["low"], kind="stable")].tobytes())
