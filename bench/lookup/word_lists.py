"""Visual words of registered pictures in memory, answering as the service's index does while it reads every word.

In: the words of pictures, in order. Out: what an upload shares with them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.core.intake.words import STORED, Shared, VisualWords


class WordLists:
    """The pictures that have each word, as one sorted array."""

    def __init__(self, registered: Sequence[VisualWords]) -> None:
        words = np.concatenate([each.words[:STORED, 0] for each in registered])
        order = np.argsort(words, kind="stable")
        self._words = words[order]
        self._places = np.concatenate([each.places[:STORED] for each in registered])[order]
        numbers = np.repeat(np.arange(len(registered)), [len(each.words[:STORED]) for each in registered])
        self._numbers = numbers[order]

    def shared(self, upload: VisualWords) -> Shared:
        """As `WordIndex.shared`; pictures are numbered from 0 in the order given."""
        asked = upload.words.ravel()
        first = np.searchsorted(self._words, asked)
        counts = np.searchsorted(self._words, asked, side="right") - first
        start = np.repeat(first - np.cumsum(counts) + counts, counts)
        rows = start + np.arange(counts.sum())
        features = np.repeat(np.repeat(np.arange(len(upload.words)), upload.words.shape[1]), counts)
        pictures = np.array([len(np.unique(self._numbers[a : a + n])) for a, n in zip(first, counts, strict=True)])
        weights = np.repeat(1.0 / np.sqrt(np.maximum(pictures, 1)), counts)
        return Shared(self._numbers[rows], features, self._places[rows], weights)
