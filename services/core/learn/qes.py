"""How decisive a soft mask is: the quality evaluation score, QES.

In: probabilities per pixel. Out: a number 0..1. Sharp masks are near 1, smeared ones near 0, empty ones exactly 0. It
says how sure the mask is of itself, not whether it is right. Source: arXiv 2508.20987; masks above 0.5 are kept there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SURE = 15.0 / 16.0
POSSIBLE = 1.0 / 16.0
EPSILON = 1e-8


def qes(mask: npt.NDArray[np.floating] | npt.NDArray[np.uint8]) -> float:
    """QES = #(p > 15/16) / (#(p > 1/16) + 1e-8) of a mask of any shape.

    Floats are probabilities 0..1; uint8 is read as 0..255 = probability. Raises ValueError for any other type.
    """
    if mask.dtype == np.uint8:
        top = 255.0
    elif np.issubdtype(mask.dtype, np.floating):
        top = 1.0
    else:
        raise ValueError(f"a mask is float 0..1 or uint8 0..255, not {mask.dtype}")
    sure = np.count_nonzero(mask > SURE * top)
    possible = np.count_nonzero(mask > POSSIBLE * top)
    return float(sure / (possible + EPSILON))
