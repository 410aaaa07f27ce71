"""TorchServe's entry to the pair model `constrained`. See `serving` for the protocol and `analysis` for the model.

Request: multipart fields `upload`, `original`, and optionally `homography` (JSON, 9 numbers, row-major).
"""

from __future__ import annotations

from model_archive.handlers import analysis, results, serving


class Constrained(serving.Entry[results.PairRequest]):
    """The handler class that TorchServe finds in this module; it must stay the only one."""

    def __init__(self) -> None:
        super().__init__(analysis.constrained_model, results.pair_request)
