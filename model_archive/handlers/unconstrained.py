"""TorchServe's entry to the single-image model `unconstrained`. See `serving` and `analysis`.

Request: the multipart field `upload`, or the image as the raw body. A server waits for the answer, so there is a
deadline for each batch: see `single.Limits`.
"""

from __future__ import annotations

import os
from pathlib import Path

from model_archive.handlers import analysis, results, serving, single


class Unconstrained(serving.Entry[results.SingleRequest]):
    """The handler class that TorchServe finds in this module; it must stay the only one."""

    def __init__(self) -> None:
        super().__init__(_served, results.single_request)


def _served(folder: Path) -> analysis.Model[results.SingleRequest]:
    limits = single.limits_from(os.environ, deadline_s=single.SERVED_DEADLINE_S)
    return analysis.unconstrained_model(folder, limits=limits)
