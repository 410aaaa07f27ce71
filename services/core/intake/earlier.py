"""Which earlier uploads are worth looking at again, because they share visual words with an original that came later.

In: the original's words, and what it shares with uploads. Out: their numbers. Geometry decides later; here a stranger
costs one more look-up, and one that is passed over keeps its verdict.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from services.core.intake.words import Shared, VisualWords, agreed

MOST_EARLIER: Final = 50  # uploads that one original finds by words; of a larger number the surest
LEAST_WORDS: Final = 6.0
"""Words that agree, in words of the median weight among those shared. By chance so many agree in one search of six, and
four twice in each (`python -m bench.lookup.earlier`). A weight by itself says little: it shrinks as the index grows."""


def worth_looking(original: VisualWords, shared: Shared, *, most: int) -> list[int]:
    """The numbers of at most `most` uploads, the surest first."""
    if not len(shared.numbers):
        return []
    least = LEAST_WORDS * float(np.median(shared.weights))
    return [number for number, weight in agreed(original, shared, most=most) if weight >= least]
