"""The embedder: an image in, the vectors of its regions out.

`Embedder` is what the rest of the project knows; `TorchServeEmbedder` asks the model `embedder` of the model server
that `models.py` describes. Its answer is a safetensors file (https://huggingface.co/docs/safetensors): eight bytes with
the length of a JSON header, the header, then the numbers. It is read here, because the services do without that
library.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.clients.calling import Answer, Limits
from services.clients.models import TorchServeClient, fail
from services.core.errors import Broken
from services.core.events import ModelVersion
from services.core.intake.regions import REGIONS, Embedding, Vectors

__all__ = ["NAME", "Embedder", "Limits", "TorchServeEmbedder", "read_embedding"]

NAME = "embedder"
LONGEST = 4096  # numbers of a vector; the largest embedders that we know have 2,048
HEADER_BYTES = 4096  # the handler writes about 250
UNIT = 0.01  # how far the length of a vector may be off 1: float16 rounds


class Embedder(Protocol):
    """Whoever turns images into vectors.

    Every method raises Unavailable where the server is away, overloaded or too slow, and Broken where it answers
    nonsense.
    """

    async def embed(self, image: bytes) -> Embedding:
        """The vectors of an image file. Raises Rejected for a picture that cannot be read."""

    async def version(self) -> str:
        """The `Embedding.embedder` of what would be embedded now; at most a few seconds old."""

    async def ready(self) -> None:
        """Return if the server can embed now; Unavailable says what is missing."""

    async def close(self) -> None:
        """Close all connections."""


class TorchServeEmbedder(TorchServeClient):
    """`Embedder` on TorchServe; the parameters are those of `models.TorchServeClient`."""

    names = (NAME,)

    async def embed(self, image: bytes) -> Embedding:
        request = self._caller.request("POST", f"/predictions/{NAME}", files={"upload": ("upload", image)})
        embedding, model = await self._caller.call(request, _read)
        self._versions.learn(model)
        return embedding

    async def version(self) -> str:
        (model,) = await self._versions.current()
        return _joined(model)


class _Tensor(BaseModel):
    dtype: Literal["F16"]
    shape: tuple[int, int]
    data_offsets: tuple[int, int]


class _Said(BaseModel):
    embedder: str
    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    vectors: _Tensor
    said: Annotated[_Said, Field(alias="__metadata__")]


def read_embedding(body: bytes) -> tuple[Embedding, ModelVersion]:
    """The vectors in a safetensors file, and the model that made them.

    Raises Broken, with what is wrong, for anything that the handler never writes: the server then hosts something else
    than our model.
    """
    length = int.from_bytes(body[:8], "little")
    if len(body) < 8 or length > HEADER_BYTES:
        raise Broken(f"model {NAME}: the answer is no safetensors file (it starts with {body[:8]!r})")
    try:
        header = _Header.model_validate_json(body[8 : 8 + length])
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'header'}: {e['msg']}" for e in error.errors()[:5])
        raise Broken(f"model {NAME}: the answer's header does not fit: {faults}") from error
    model = ModelVersion(name=header.said.model, version=header.said.version)
    if model.name != NAME or header.said.embedder != _joined(model):
        raise Broken(f"model {NAME}: the answer is by {header.said.embedder!r}; check what the server hosts")
    return Embedding(header.said.embedder, _numbers(header.vectors, body[8 + length :])), model


def _read(answer: Answer) -> tuple[Embedding, ModelVersion]:
    if answer.status != 200:
        fail(answer, NAME)
    if answer.media_type != "application/octet-stream":
        raise Broken(f"model {NAME}: answered {answer.media_type or 'nothing'} instead of vectors: {answer.start}")
    return read_embedding(answer.body)


def _numbers(tensor: _Tensor, data: bytes) -> Vectors:
    """[R,D] float32, checked: a vector for each region, finite, of length 1 but for rounding."""
    count, length = tensor.shape
    if count != len(REGIONS) or not 0 < length <= LONGEST:
        raise Broken(f"model {NAME}: {count} vectors of {length} numbers, want one for each of {len(REGIONS)} regions")
    if tensor.data_offsets != (0, len(data)) or len(data) != 2 * count * length:
        raise Broken(f"model {NAME}: {len(data)} bytes are not {count} vectors of {length} float16 numbers")
    vectors = np.frombuffer(data, "<f2").reshape(count, length).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.abs(lengths - 1.0) < UNIT).all():  # false for what is not finite, too
        raise Broken(
            f"model {NAME}: its vectors must be of length 1, they are {lengths.min():.3f} to {lengths.max():.3f}"
        )
    return np.asarray(vectors / lengths[:, None], np.float32)


def _joined(model: ModelVersion) -> str:
    return f"{model.name}-{model.version}"
