"""The models in process: image bytes to masks, for TorchServe's handlers and the offline commands alike.

In: requests (`results`). Out: one `Analysis` or `ItemError` per request, in order. A bad item never touches the others.
Items of equal padded size run stacked, within a limit of pixels, the others one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from model_archive import preprocess, weights
from model_archive.handlers.results import Analysis, ItemError, Kind, PairRequest, SingleRequest
from model_archive.networks.registry import GRANULE
from services.core import alignment, pixels
from services.core.errors import Rejected
from services.core.learn.qes import qes

MAX_SIDE = 1024
"""Pixels of the longer side at which pictures are analysed; larger ones are reduced, masks enlarged again."""

ORIGINAL_SIDE = 2048  # originals keep more detail, because an upload may be a crop of one
STACKED_PIXELS = 2_200_000  # of one forward pass: two pictures of 1024 x 1024, about 1.2 GB at the peak
LEAST_OVERLAP = 0.05  # share of the upload that an original must cover to say anything about it

R = TypeVar("R", bound=SingleRequest | PairRequest)


@dataclass(slots=True)
class Prepared:
    """An item on its way: the network's padded input [C,H,W], or None where the answer is known without it.

    `working` is (width, height) of the unpadded input, `full` of the upload.
    """

    x: npt.NDArray[np.float32] | None
    working: preprocess.Size
    full: preprocess.Size
    kind: Kind | None = None
    inliers: int | None = None
    overlap: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Model(Generic[R]):
    """A named network with the preparation of its requests. `analyse` never raises for an item's sake."""

    name: str
    loaded: weights.Loaded
    prepare: Callable[[R], Prepared]
    on_error: Callable[[Exception], None] = field(default=lambda error: None)

    @property
    def version(self) -> str:
        """`<semver>+<first 12 hex of the weights' SHA-256>`."""
        return self.loaded.version

    def analyse(self, items: Sequence[R]) -> list[Analysis | ItemError]:
        """One answer per item, in order. `on_error` is told of unexpected errors."""
        answers: dict[int, Analysis | ItemError] = {}
        prepared: dict[int, Prepared] = {}
        for index, item in enumerate(items):
            outcome = self._guarded(partial(self._prepared, item))
            if isinstance(outcome, ItemError):
                answers[index] = outcome
            else:
                prepared[index] = outcome
        for group in _stacks(prepared):
            answers |= self._answered({index: prepared[index] for index in group})
        return [answers[index] for index in range(len(items))]

    def _prepared(self, item: R) -> Prepared:
        started = time.perf_counter()
        prepared = self.prepare(item)
        prepared.seconds = time.perf_counter() - started
        return prepared

    def _answered(self, group: dict[int, Prepared]) -> dict[int, Analysis | ItemError]:
        """A stack's answers; where the stack as a whole fails, each of its items alone."""
        outcome = self._guarded(partial(self._run, list(group.values())))
        if not isinstance(outcome, ItemError):
            return dict(zip(group, outcome, strict=True))
        if len(group) == 1:
            return dict.fromkeys(group, outcome)
        return {index: answer for i, one in group.items() for index, answer in self._answered({i: one}).items()}

    def _run(self, group: list[Prepared]) -> list[Analysis]:
        inputs = [item.x for item in group if item.x is not None]
        if not inputs:
            return [self._analysis(item, _nothing(item.full), 0.0, 0.0, item.seconds) for item in group]
        started = time.perf_counter()
        batch = torch.from_numpy(np.stack(inputs)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            out = self.loaded.network(batch)
            chances = torch.sigmoid(out.mask[:, 0]).numpy()
            scores = torch.sigmoid(out.image / self.loaded.card.temperature + self.loaded.card.bias).tolist()
        each = (time.perf_counter() - started) / len(group)
        answers = []
        for item, chance, score in zip(group, chances, scores, strict=True):
            seen = chance[: item.working[1], : item.working[0]]
            answers.append(self._analysis(item, _enlarged(seen, item.full), score, qes(seen), item.seconds + each))
        return answers

    def _analysis(
        self, item: Prepared, mask: npt.NDArray[np.uint8], score: float, decisive: float, seconds: float
    ) -> Analysis:
        return Analysis(
            model=self.name,
            version=self.version,
            mask=mask,
            score=score,
            qes=decisive,
            seconds=seconds,
            kind=item.kind,
            inliers=item.inliers,
            overlap=item.overlap,
        )

    def _guarded(self, work: Callable[[], T]) -> T | ItemError:
        """The work's result, or its error as the item's. Broad on purpose: one item must not end the others' batch."""
        try:
            return work()
        except Rejected as error:
            return ItemError("rejected", error.message, error.code)
        except Exception as error:
            self.on_error(error)
            return ItemError("broken", f"{type(error).__name__}: {error}"[:500])


T = TypeVar("T")


def constrained_model(path: Path | None = None, *, max_side: int = MAX_SIDE) -> Model[PairRequest]:
    """The pair model `constrained`. `path` names other weights than the shipped ones. Raises Broken.

    Pairs are taken for edits in place (kind `spg`) where the original aligns with the upload, otherwise for
    `unrelated`; telling an object pasted elsewhere (`sdg`) apart is not part of this model yet.
    """
    loaded = weights.load(path or weights.default_path("difference"))
    return Model("constrained", loaded, lambda request: prepared_pair(request, max_side))


def unconstrained_model(path: Path | None = None, *, max_side: int = MAX_SIDE) -> Model[SingleRequest]:
    """The single-image model `unconstrained`. `path` names other weights than the shipped ones. Raises Broken."""
    loaded = weights.load(path or weights.default_path("web_iml"))
    return Model("unconstrained", loaded, lambda request: prepared_single(request, max_side))


def prepared_single(request: SingleRequest, max_side: int) -> Prepared:
    """The single network's input [3,H,W]. Raises Rejected."""
    upload = pixels.open_image(request.upload, max_side=max_side)
    x = preprocess.padded(preprocess.rgb_input(upload.rgb), GRANULE)
    return Prepared(x, _size(upload.rgb), (upload.width, upload.height))


def prepared_pair(request: PairRequest, max_side: int) -> Prepared:
    """The pair network's input [9,H,W], after alignment where no homography is given. Raises Rejected."""
    upload = pixels.open_image(request.upload, max_side=max_side)
    full, working = (upload.width, upload.height), _size(upload.rgb)
    if request.upload == request.original:
        return Prepared(None, working, full, kind="spg", overlap=1.0)
    original = pixels.open_image(request.original, max_side=ORIGINAL_SIDE)
    homography, inliers = request.homography, None
    if homography is None:
        found = _aligned(original, upload)
        if found is None:
            return Prepared(None, working, full, kind="unrelated", inliers=0, overlap=0.0)
        homography, inliers = found.homography, found.inliers
    placed, valid = _placed(original, homography, upload)
    overlap = float(valid.mean())
    if overlap < LEAST_OVERLAP:
        return Prepared(None, working, full, kind="unrelated", inliers=inliers, overlap=overlap)
    if np.array_equal(placed, upload.rgb):
        return Prepared(None, working, full, kind="spg", inliers=inliers, overlap=overlap)
    x = preprocess.padded(preprocess.pair_input(upload.rgb, placed, valid), GRANULE)
    return Prepared(x, working, full, kind="spg", inliers=inliers, overlap=overlap)


def _aligned(original: pixels.Picture, upload: pixels.Picture) -> alignment.Alignment | None:
    features = (
        alignment.extract(pixels.to_grey(picture.rgb), (picture.width, picture.height))
        for picture in (original, upload)
    )
    return alignment.align(*features)


def _placed(
    original: pixels.Picture, homography: npt.NDArray[np.float64], upload: pixels.Picture
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """The original in the working frame of the upload [H,W,3], and where it has pixels [H,W]."""
    now, frame = _size(original.rgb), _size(upload.rgb)
    matrix = preprocess.rescaled(
        homography, original=((original.width, original.height), now), upload=((upload.width, upload.height), frame)
    )
    placed = alignment.warp(original.rgb, matrix, frame)
    covered = alignment.warp(np.full(original.rgb.shape[:2], 255, np.uint8), matrix, frame)
    return placed, np.asarray(covered >= 250)


def _stacks(prepared: dict[int, Prepared]) -> list[list[int]]:
    """Indices of items that can run as one stack: the same padded size, up to a number of pixels."""
    stacks: list[list[int]] = []
    open_stacks: dict[tuple[int, ...], list[int]] = {}
    for index, item in prepared.items():
        shape = () if item.x is None else item.x.shape
        room = STACKED_PIXELS // (shape[1] * shape[2]) if shape else len(prepared)
        stack = open_stacks.get(shape)
        if stack is None or len(stack) >= max(1, room):
            stack = open_stacks[shape] = []
            stacks.append(stack)
        stack.append(index)
    return stacks


def _enlarged(chance: npt.NDArray[np.float32], full: preprocess.Size) -> npt.NDArray[np.uint8]:
    """Probabilities [h,w] as [H,W] uint8 of the upload's full size (width, height), bilinear."""
    levels = np.round(chance * 255.0).astype(np.uint8)
    if _size(levels) == full:
        return levels
    return np.asarray(cv2.resize(levels, full, interpolation=cv2.INTER_LINEAR), np.uint8)


def _nothing(full: preprocess.Size) -> npt.NDArray[np.uint8]:
    return np.zeros((full[1], full[0]), np.uint8)


def _size(picture: npt.NDArray[np.uint8]) -> preprocess.Size:
    """(width, height) of pixels [H,W,...]."""
    return int(picture.shape[1]), int(picture.shape[0])
