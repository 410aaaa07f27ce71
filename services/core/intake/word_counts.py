"""Which of an upload's visual words are sought, where the index is so large that all of them would take too long.

In: how often words occur in a sample of the index. Out: the rarest words whose postings together can be afforded. A
rare word says more about which picture it is, and costs less to read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class WordCounts:
    """Of `sampled` of an index's `postings` so many (`counts` [K]) are of each of these `words` [K], ascending."""

    postings: int
    sampled: int
    words: Integers
    counts: Integers

    def expected(self, words: Integers, *, most: int) -> npt.NDArray[np.float64]:
        """Postings that reading each of the words takes, of the same shape, `most` at most. A word that is not in the
        sample counts as half of one that is there once."""
        if not len(self.words):
            return np.zeros(words.shape)
        place = np.minimum(np.searchsorted(self.words, words), len(self.words) - 1)
        counts = np.where(self.words[place] == words, self.counts[place], 0.5)
        return np.minimum(counts * self.postings / self.sampled, most)


def affordable(expected: npt.NDArray[np.float64], budget: float) -> npt.NDArray[np.bool_]:
    """Which words to read, of the shape of `expected`: the cheapest, as long as they take no more than `budget` in all;
    at least one."""
    order = np.argsort(expected, axis=None, kind="stable")
    within = np.cumsum(expected.ravel()[order]) <= budget
    within[:1] = True
    chosen = np.zeros(expected.size, np.bool_)
    chosen[order] = within
    return chosen.reshape(expected.shape)
