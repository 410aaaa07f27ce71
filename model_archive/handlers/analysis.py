"""The models in process: image bytes to masks, for TorchServe's handlers and the offline commands alike.

In: requests (`results`). Out: one `Analysis` or `ItemError` per request, in order. A bad item never touches the others.
Items for the same network and of equal padded size run stacked, within a limit of pixels, the others one by one; a
large upload alone runs at once, in tiles, so that no two large pictures are held.
"""

from __future__ import annotations

import hashlib
import math
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
from model_archive.handlers import single, tiling
from model_archive.handlers.pairing import Prepared, carried_back, prepared_pair
from model_archive.handlers.results import Analysis, ItemError, PairRequest, SingleRequest
from model_archive.handlers.single import Limits, limits_from, prepared_single
from model_archive.handlers.tiling import Floats
from model_archive.networks import prior as prior_features
from model_archive.networks.prior import PriorFeatures
from services.core import pixels
from services.core.errors import Rejected
from services.core.learn.qes import qes

MAX_SIDE = 1024
"""Pixels of the longer side at which pairs are analysed; larger ones are reduced, masks enlarged again."""

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

    `deadline_s` is for one call of `analyse`, by `clock` in seconds. Items in tiles have a fair share of what is left;
    one that cannot be done by then at its own resolution is done reduced, see `single.reduced`.
    """

    name: str
    networks: Mapping[str, weights.Loaded]
    prepare: Callable[[R], Prepared]
    flips: bool = False
    on_error: Callable[[Exception], None] = field(default=lambda error: None)
    beside: tuple[str, ...] = ()
    deadline_s: float = math.inf
    clock: Callable[[], float] = time.perf_counter

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
        until = self.clock() + self.deadline_s
        for index, item in enumerate(items):
            outcome = self._guarded(partial(self._begun, item, until, len(items) - index))
            if isinstance(outcome, Prepared):
                prepared[index] = outcome
            else:
                answers[index] = outcome
        for group in _stacks(prepared):
            answers |= self._answered({index: prepared[index] for index in group})
        return [answers[index] for index in range(len(items))]

    def _begun(self, item: R, until: float, waiting: int) -> Prepared | Analysis:
        """An item prepared, or answered at once where it runs in tiles. `waiting` items share the time left, itself
        included."""
        started = self.clock()
        prepared = self.prepare(item)
        prepared.seconds = self.clock() - started
        if prepared.tiles is None:
            return prepared
        return self._tiled(prepared, started + max(0.0, until - started) / waiting)

    def _tiled(self, item: Prepared, until: float) -> Analysis:
        """The answer of a picture in tiles; of the reduced one as soon as the tiles done say that time will not do.

        What is left is finished where that costs no more than the reduced look would.
        """
        if item.tiles is None or item.picture is None:
            raise ValueError("not an item in tiles")
        started, tiles = self.clock(), item.tiles
        area = tiles.size[0] * tiles.size[1]

        def go_on(done: int) -> bool:
            now, left = self.clock(), tiles.count - done
            late = now + (now - started) / done * left > until
            return not late or left * area <= item.look_pixels

        network = self.networks[item.network].network
        room = tiling.BATCH_PIXELS_GPU if device_of(network).type == "cuda" else tiling.BATCH_PIXELS
        look = partial(self._looked, item.network)
        seen = tiling.looked(tiles, single.tile_of(item.picture), look, batch_pixels=room, go_on=go_on)
        item.seconds += self.clock() - started
        if seen is None:
            return self._run([single.reduced(item, out_of_time=True)])[0]
        return self._analysis(item, seen.mask, _probability(seen.logit), qes(seen.mask), None)

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
        started = self.clock()
        chances, logits = self._looked(group[0].network, np.concatenate(inputs))
        each = (self.clock() - started) / len(group)
        answers, place = [], 0
        for item, x in zip(group, inputs, strict=True):
            mine = slice(place, place + len(x))
            place = mine.stop
            item.seconds += each
            answers.append(self._found(item, chances[mine].max(axis=0), _probability(float(logits[mine].max()))))
        return answers

    def _looked(self, name: str, inputs: Floats) -> tuple[Floats, Floats]:
        """What a network says of [B,C,H,W]: probabilities [B,H,W], and calibrated image logits [B], both float32."""
        loaded = self.networks[name]
        batch = torch.from_numpy(inputs).to(device_of(loaded.network)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            mask, image = marked(loaded.network, batch, flips=self.flips)
            chances = torch.sigmoid(mask[:, 0] + loaded.card.mask_bias).cpu().numpy()
            return chances, (image / loaded.card.temperature + loaded.card.bias).cpu().numpy()

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
        if item.copies:
            mask, score = single.with_copies(item, mask, score)
            decisive = qes(mask)
        return Analysis(
            model=self.name,
            version=self.version,
            mask=np.ascontiguousarray(pixels.upright(mask, item.orientation)),
            score=score,
            qes=decisive,
            seconds=item.seconds,
            kind=item.kind,
            inliers=item.inliers,
            overlap=item.overlap,
            confidence=item.confidence,
            homography=item.maps[0] if item.maps else None,
            original_mask=original_mask,
            notes=item.notes,
            copies=single.copied_parts(item),
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


def unconstrained_model(
    folder: Path | None = None,
    *,
    limits: Limits | None = None,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.perf_counter,
) -> Model[SingleRequest]:
    """The single-image model `unconstrained`. `folder` holds other weights than the shipped ones. Without `limits` the
    `environment` says what they are (`single.limits_from`), with no deadline unless it sets one. Raises Broken."""
    networks = {single.NETWORK: weights.load(weights.default_path(single.NETWORK, folder))}
    within = limits_from(environment) if limits is None else limits

    def prepare(request: SingleRequest) -> Prepared:
        return prepared_single(request, within)

    return Model("unconstrained", networks, prepare, deadline_s=within.deadline_s, clock=clock)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's parameters are."""
    return next(network.parameters()).device


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


def _probability(logit: float) -> float:
    """The logistic function, without overflow."""
    return float(torch.sigmoid(torch.tensor(logit)))


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
