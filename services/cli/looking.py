"""The models in this process, without a server: what the offline commands ask of them.

In: image bytes. Out: `Looked`, a soft mask with what was decided. The same classes answer inside TorchServe, and
the same core functions decide inside the judge. torch is imported only when `Models` are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from services.core.errors import Broken, Rejected
from services.core.events import ImageIntaken, ModelVersion, Path
from services.core.judge.mask import describe
from services.core.judge.route import Alone, Compare, Identical, route
from services.core.judge.verdict import Finding, Outcome, decide, needs_unconstrained
from services.core.policy import Policy

if TYPE_CHECKING:
    from model_archive.handlers.results import Analysis, ItemError

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Looked:
    """An outcome with the soft mask [H,W] uint8 (0..255 = probability) of the path that decided.

    `area` is the share of its pixels at or above the policy's mask threshold, `model` who made it ("" for nobody).
    """

    outcome: Outcome
    mask: Grey
    area: float
    model: str


class Models:
    """The models of these names, loaded. Raises Broken.

    `threads` 0 leaves the number of threads to torch. `flips` averages `constrained` over mirror images too, three
    looks for one; the stream never does.
    """

    def __init__(self, *names: str, threads: int = 0, flips: bool = False) -> None:
        import torch

        from model_archive.handlers.analysis import constrained_model, unconstrained_model

        if threads:
            torch.set_num_threads(threads)
        self._constrained = constrained_model(flips=flips) if "constrained" in names else None
        self._unconstrained = unconstrained_model() if "unconstrained" in names else None

    def unconstrained(self, upload: bytes) -> Analysis:
        """The upload alone. Raises Rejected, Broken."""
        from model_archive.handlers.results import SingleRequest

        if self._unconstrained is None:
            raise Broken("the model `unconstrained` was not loaded")
        return _answer(self._unconstrained.analyse([SingleRequest(upload)])[0])

    def constrained(self, upload: bytes, original: bytes, homography: tuple[float, ...] | None = None) -> Analysis:
        """The upload against an original; `homography` row-major, original's to upload's pixels. As above."""
        from model_archive.handlers.results import PairRequest

        if self._constrained is None:
            raise Broken("the model `constrained` was not loaded")
        matrix = None if homography is None else np.array(homography, np.float64).reshape(3, 3)
        return _answer(self._constrained.analyse([PairRequest(upload, original, matrix)])[0])


def look_alone(models: Models, upload: bytes, policy: Policy) -> Looked:
    """Web-IML's path. Raises Rejected, Broken."""
    analysis = models.unconstrained(upload)
    finding = _finding(analysis, policy)
    return Looked(decide(Alone(), None, finding, policy), analysis.mask, finding.mask.area, model_name(analysis))


def look(models: Models, upload: bytes, intake: ImageIntaken, original: bytes | None, policy: Policy) -> Looked:
    """The path that the judge would take with these candidates; `original` is the first one's bytes, if there is one.

    Raises Rejected, Broken.
    """
    way = route(intake, policy)
    if isinstance(way, Identical):
        nothing = np.zeros((intake.image.height, intake.image.width), np.uint8)
        return Looked(decide(way, None, None, policy), nothing, 0.0, "")
    pair = alone = None
    if isinstance(way, Compare):
        if original is None:
            raise Broken(f"{intake.upload_id}: there is a candidate, but its bytes were not given")
        pair = models.constrained(upload, original, way.candidate.homography)
    compared = None if pair is None else _finding(pair, policy)
    if needs_unconstrained(way, compared):
        alone = models.unconstrained(upload)
    blind = None if alone is None else _finding(alone, policy)
    outcome = decide(way, compared, blind, policy)
    analysis, finding = (alone, blind) if outcome.path is Path.UNCONSTRAINED else (pair, compared)
    if analysis is None or finding is None:
        raise Broken(f"{intake.upload_id}: decided by {outcome.path}, which was not looked at")
    return Looked(outcome, analysis.mask, finding.mask.area, model_name(analysis))


def model_name(analysis: Analysis) -> str:
    """`<model>/<version>`."""
    return f"{analysis.model}/{analysis.version}"


def _answer(answer: Analysis | ItemError) -> Analysis:
    """The analysis, or the item's error as ours."""
    from model_archive.handlers.results import ItemError

    if not isinstance(answer, ItemError):
        return answer
    if answer.kind == "rejected" and answer.code is not None:
        raise Rejected(answer.code, answer.message)
    raise Broken(answer.message)


def _finding(analysis: Analysis, policy: Policy) -> Finding:
    mask = describe(analysis.mask, threshold=policy.mask_threshold, qes=analysis.qes, object_key=analysis.model)
    model = ModelVersion(name=analysis.model, version=analysis.version)
    return Finding(model, analysis.score, mask, analysis.kind, analysis.notes, analysis.copies)
