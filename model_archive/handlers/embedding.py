"""The embedder in process: pictures to the vectors of their regions, for TorchServe's handler and offline commands.

In: pictures [H,W,3] uint8 RGB, or requests with image files. Out: a picture's vectors [R,D] float32 of length 1, one
for each of `regions.REGIONS`, or `Embedded` / `ItemError` per request, in order. All regions of all pictures of a call
run together, in passes of `MOST_REGIONS`. The network is ours, or one of `networks.foreign`, by the environment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.numpy import save
from torch import nn

from model_archive import preprocess, weights
from model_archive.handlers.results import ItemError, SingleRequest
from model_archive.networks import foreign
from services.core import pixels
from services.core.errors import Broken, Rejected
from services.core.intake.regions import Vectors

NAME = "embedder"
MOST_REGIONS = 56  # of one forward pass: four pictures
DECODED_SIDE = 1280  # pixels of the longer side that files are decoded at most: more says nothing to 128-pixel regions

BACKBONE = "PENTIMENTO_EMBEDDER_BACKBONE"
"""Environment: one of `foreign.NETWORKS` to embed with instead of our own network. Unset or empty: our own."""

BACKBONE_WEIGHTS = "PENTIMENTO_EMBEDDER_WEIGHTS"
"""Environment: the safetensors file with that network's weights."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture's vectors [R,D] float32 of length 1, and who made them."""

    vectors: Vectors
    version: str
    seconds: float
    media_type: ClassVar[str] = "application/octet-stream"

    def body(self) -> bytes:
        """A safetensors file: `vectors` as float16, and as text `embedder`, `model`, `version`, `seconds`."""
        said = {"embedder": f"{NAME}-{self.version}", "model": NAME, "version": self.version}
        return bytes(save({"vectors": self.vectors.astype(np.float16)}, said | {"seconds": f"{self.seconds:.4f}"}))


@dataclass(frozen=True, slots=True)
class EmbedderModel:
    """A network that embeds regions of `side` x `side` pixels. `on_error` is told of unexpected errors."""

    network: nn.Module
    side: int
    version: str
    name: str = NAME
    on_error: Callable[[Exception], None] = field(default=lambda error: None)

    def embed(self, pictures: Sequence[pixels.Pixels]) -> list[Vectors]:
        """The vectors of pictures [H,W,3] uint8 RGB, upright: [R,D] float32 of length 1 each."""
        return self._looked([preprocess.region_inputs(rgb, self.side) for rgb in pictures])

    def analyse(self, items: Sequence[SingleRequest]) -> list[Embedded | ItemError]:
        """One answer per item, in order. Never raises for an item's sake."""
        started = time.perf_counter()
        made = [self._guarded(item) for item in items]
        inputs = [each for each in made if not isinstance(each, ItemError)]
        try:
            found = iter(self._looked(inputs))
        except Exception as error:  # whatever breaks the network must not end the worker
            self.on_error(error)
            return [each if isinstance(each, ItemError) else _broken(error) for each in made]
        seconds = (time.perf_counter() - started) / max(1, len(items))
        return [each if isinstance(each, ItemError) else Embedded(next(found), self.version, seconds) for each in made]

    def _guarded(self, item: SingleRequest) -> preprocess.Floats | ItemError:
        """The inputs of an item's regions, or why it has none."""
        try:
            picture = pixels.open_image(item.upload, max_side=DECODED_SIDE)
            return preprocess.region_inputs(picture.rgb, self.side)
        except Rejected as error:
            return ItemError("rejected", error.message, error.code)
        except Exception as error:  # the others of the batch must have their answers
            self.on_error(error)
            return _broken(error)

    def _looked(self, inputs: Sequence[preprocess.Floats]) -> list[Vectors]:
        """The vectors [R,D] of each of `inputs` [R,3,S,S], all regions in few passes. Raises Broken if not finite."""
        if not inputs:
            return []
        x = torch.from_numpy(np.concatenate(inputs)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            passes = [self.network(x[start : start + MOST_REGIONS]) for start in range(0, len(x), MOST_REGIONS)]
            vectors = torch.cat(passes).float().numpy()
        if not np.isfinite(vectors).all():
            raise Broken(f"{self.name} {self.version} gave numbers that are not finite: check its weights")
        first = np.cumsum([0, *(len(each) for each in inputs)])
        return [vectors[start:end] for start, end in pairwise(first)]


def embedder_model(folder: Path | None = None, *, environment: Mapping[str, str] = os.environ) -> EmbedderModel:
    """The embedder that the `environment` asks for; `folder` holds other weights of our own than the shipped ones.

    Raises Broken where weights are missing, damaged or of another network.
    """
    if backbone := environment.get(BACKBONE, ""):
        if not (path := environment.get(BACKBONE_WEIGHTS, "")):
            raise Broken(f"{BACKBONE} is {backbone}, whose weights must be named: set {BACKBONE_WEIGHTS} to a file")
        loaded = foreign.load(backbone, Path(path))
        return EmbedderModel(loaded, foreign.SIDE, loaded.version)
    own = weights.load(weights.default_path(NAME, folder))
    return EmbedderModel(own.network, preprocess.REGION_SIDE, own.version)


def _broken(error: Exception) -> ItemError:
    return ItemError("broken", f"{type(error).__name__}: {error}")
