"""TorchServe's entry to the single-image model `unconstrained`. See `serving` and `analysis`.

Request: the multipart field `upload`, or the image as the raw body.
"""

from __future__ import annotations

from model_archive.handlers import analysis, results, serving


class Unconstrained(serving.Entry[results.SingleRequest]):
    """The handler class that TorchServe finds in this module; it must stay the only one."""

    def __init__(self) -> None:
        super().__init__(analysis.unconstrained_model, results.single_request)
