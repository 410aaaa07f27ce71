"""The models in process: image bytes to masks, for TorchServe's handlers and the offline commands alike.

In: requests (`results`). Out: one `Analysis` or `ItemError` per request, in order. A bad item never touches the others.
Items for the same network and of equal padded size run stacked, within a limit of pixels, the others one by one.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_archive import preprocess, weights
from model_archive.handlers.pairing import Prepared, carried_back, prepared_pair
from model_archive.handlers.results import Analysis, ItemError, PairRequest, SingleRequest
from model_archive.networks import prior as prior_features
from model_archive.networks.prior import PriorFeatures
from model_archive.networks.registry import GRANULE
from services.core import pixels
from services.core.errors import Rejected
from services.core.learn.qes import qes

MAX_SIDE = 1024
"""Pixels of the longer side at which pictures are analysed; larger ones are reduced, masks enlarged again."""

CERTAIN = 0.98  # probability of a pixel that plainly changed between two files without loss
STACKED_PIXELS = 2_200_000  # of one forward pass: two pictures of 1024 x 1024, about 1.2 GB at the peak
CONSTRAINED = ("difference", "correlation", "pair_kind")
"""The networks of the pair model, the one that it is named after first."""

DINOV2_WEIGHTS = "PENTIMENTO_DINOV2_WEIGHTS"
"""Environment: a safetensors file of DINOv2, for prior features. Unset or empty: none are used."""

R = TypeVar("R", bound=SingleRequest | PairRequest)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Model(Generic[R]):
    """A named model: its networks, the first of them the main one, and the preparation of its requests.

    `beside` are the SHA-256 of files that the preparation works with beside the networks, for the version.
    `analyse` never raises for an item's sake. `flips` averages the logits over both mirror images too (test-time
    augmentation): for annotating, not for the stream.
    """

    name: str
    networks: Mapping[str, weights.Loaded]
    prepare: Callable[[R], Prepared]
    flips: bool = False
    on_error: Callable[[Exception], None] = field(default=lambda error: None)
    beside: tuple[str, ...] = ()

    @property
    def loaded(self) -> weights.Loaded:
        """The main network."""
        return next(iter(self.networks.values()))

    @property
    def version(self) -> str:
        """`<semver>+<12 hex>`: of the weights' SHA-256, or of all of them where there are several."""
        return joined_version(list(self.networks.values()), self.beside)

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
        """Answers of items for one network; its inputs all have one size."""
        inputs = [item.x for item in group if item.x is not None]
        if not inputs:
            return [self._nothing(item) for item in group]
        started = time.perf_counter()
        loaded = self.networks[group[0].network]
        batch = torch.from_numpy(np.concatenate(inputs)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            mask, image = marked(loaded.network, batch, flips=self.flips)
            chances = torch.sigmoid(mask[:, 0]).numpy()
            scores = torch.sigmoid(image / loaded.card.temperature + loaded.card.bias).numpy()
        each = (time.perf_counter() - started) / len(group)
        answers, place = [], 0
        for item, x in zip(group, inputs, strict=True):
            mine = slice(place, place + len(x))
            place = mine.stop
            item.seconds += each
            answers.append(self._found(item, chances[mine].max(axis=0), float(scores[mine].max())))
        return answers

    def _found(self, item: Prepared, chance: npt.NDArray[np.float32], score: float) -> Analysis:
        """The answer that a network gave. An object that its network sees nothing of was chance."""
        seen = chance[: item.working[1], : item.working[0]]
        if item.exact is not None:
            seen = np.maximum(seen, item.exact * np.float32(CERTAIN))
        if item.kind == "sdg" and seen.max() < self.networks[item.network].card.mask_threshold:
            item.kind = "unrelated"
            return self._nothing(item)
        mask = _enlarged(seen, item.full)
        taken = carried_back(mask, item.maps, item.original) if item.kind == "sdg" else None
        return self._analysis(item, mask, score, qes(seen), taken)

    def _nothing(self, item: Prepared) -> Analysis:
        return self._analysis(item, np.zeros((item.full[1], item.full[0]), np.uint8), 0.0, 0.0, None)

    def _analysis(
        self,
        item: Prepared,
        mask: npt.NDArray[np.uint8],
        score: float,
        decisive: float,
        original_mask: npt.NDArray[np.uint8] | None,
    ) -> Analysis:
        return Analysis(
            model=self.name,
            version=self.version,
            mask=mask,
            score=score,
            qes=decisive,
            seconds=item.seconds,
            kind=item.kind,
            inliers=item.inliers,
            overlap=item.overlap,
            confidence=item.confidence,
            homography=item.maps[0] if item.maps else None,
            original_mask=original_mask,
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


def constrained_model(
    folder: Path | None = None,
    *,
    max_side: int = MAX_SIDE,
    flips: bool = False,
    prior: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Model[PairRequest]:
    """The pair model `constrained`. `folder` holds other weights than the shipped ones, a file for each network;
    `flips` averages over mirror images. `prior` is a file of weights for prior features; without it the `environment`
    says whether there are any (`prior_from`). Raises Broken."""
    networks = {name: weights.load(weights.default_path(name, folder)) for name in CONSTRAINED}
    classifier = networks["pair_kind"].network
    features = prior_from(environment) if prior is None else prior_features.load(prior)

    def prepare(request: PairRequest) -> Prepared:
        return prepared_pair(request, classifier, max_side, features)

    beside = () if features is None else (features.sha256,)
    return Model("constrained", networks, prepare, flips, beside=beside)


def prior_from(environment: Mapping[str, str]) -> PriorFeatures | None:
    """The prior features that DINOV2_WEIGHTS names, or None where it is unset or empty. Raises Broken where the file is
    missing or does not fit: who asks for a prior must not be served without."""
    path = environment.get(DINOV2_WEIGHTS, "")
    return prior_features.load(Path(path)) if path else None


def unconstrained_model(folder: Path | None = None, *, max_side: int = MAX_SIDE) -> Model[SingleRequest]:
    """The single-image model `unconstrained`. `folder` holds other weights than the shipped ones. Raises Broken."""
    networks = {"web_iml": weights.load(weights.default_path("web_iml", folder))}
    return Model("unconstrained", networks, lambda request: prepared_single(request, max_side))


def prepared_single(request: SingleRequest, max_side: int) -> Prepared:
    """The single network's input [1,3,H,W]. Raises Rejected."""
    upload = pixels.open_image(request.upload, max_side=max_side)
    x = preprocess.padded(preprocess.single_input(upload.rgb, upload.jpeg_steps), GRANULE)[None]
    working = int(upload.rgb.shape[1]), int(upload.rgb.shape[0])
    return Prepared(x, working, (upload.width, upload.height), "web_iml")


def marked(network: nn.Module, batch: Tensor, *, flips: bool) -> tuple[Tensor, Tensor]:
    """Mask logits [B,1,H,W] and image logits [B] of inputs [B,C,H,W]; with `flips` the mean over identity and both
    mirror images."""
    out = network(batch)
    mask, image = out.mask, out.image
    if not flips:
        return mask, image
    for axis in (2, 3):
        out = network(batch.flip(axis))
        mask, image = mask + out.mask.flip(axis), image + out.image
    return mask / 3.0, image / 3.0


def joined_version(loaded: Sequence[weights.Loaded], beside: Sequence[str] = ()) -> str:
    """The version of a model of one network, or the main one's with a digest over all, and over the SHA-256 of what is
    used `beside` them."""
    if len(loaded) == 1 and not beside:
        return loaded[0].version
    digest = hashlib.sha256(" ".join([*(each.version for each in loaded), *beside]).encode()).hexdigest()
    return loaded[0].card.version_with(digest)


def _stacks(prepared: dict[int, Prepared]) -> list[list[int]]:
    """Indices of items that can run as one stack: same network, same padded size, up to a number of pixels."""
    stacks: list[list[int]] = []
    open_stacks: dict[tuple[str | int, ...], list[int]] = {}
    for index, item in prepared.items():
        shape = () if item.x is None else item.x.shape[1:]
        key = ("", 0) if item.x is None else (item.network, *shape)
        room = STACKED_PIXELS // (shape[1] * shape[2]) if shape else len(prepared)
        stack = open_stacks.get(key)
        if stack is None or len(stack) >= max(1, room):
            stack = open_stacks[key] = []
            stacks.append(stack)
        stack.append(index)
    return stacks


def _enlarged(chance: npt.NDArray[np.float32], full: preprocess.Size) -> npt.NDArray[np.uint8]:
    """Probabilities [h,w] as [H,W] uint8 of the upload's full size (width, height), bilinear."""
    levels = np.round(chance * 255.0).astype(np.uint8)
    if (levels.shape[1], levels.shape[0]) == full:
        return levels
    return np.asarray(cv2.resize(levels, full, interpolation=cv2.INTER_LINEAR), np.uint8)
