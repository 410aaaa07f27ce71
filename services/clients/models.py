"""The model server: an upload (and its original) in, a localisation out.

`Models` is what the rest of the project knows; `TorchServeModels` speaks TorchServe 0.12's inference API, and
`oip.OipModels` the Open Inference Protocol. `calling.py` has deadlines, limits, retries and the circuit.

TorchServe's ways, as seen on 0.12:
- a key that is missing, wrong or expired is a 400 of type InvalidKeyException (401 and 403 come from a proxy);
- a full queue, and a handler that raised, are 503; a worker that died or overran `responseTimeout` is a 500 whose body
  is not ours; all of these pass, so they are Unavailable;
- our handlers answer per item: 200 image/png, 422 {"error": {"kind": "rejected", "code", "message"}}, or
  500 {"error": {"kind": "broken", "message"}}; a request with the single field `describe` gets the model's version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, Protocol
from urllib.parse import quote

from pydantic import BaseModel, Field, ValidationError

from services.clients.calling import Answer, Bearer, Caller, KeyRefused, Limits, Watch
from services.clients.localisation import Localisation, read_localisation, read_refusal
from services.clients.versions import Versions
from services.core.errors import Broken, Rejected, Unavailable
from services.core.events import ModelVersion

__all__ = ["Limits", "Localisation", "Models", "TorchServeClient", "TorchServeModels", "Watch"]

DEPENDENCY = "models"
CONSTRAINED = "constrained"
UNCONSTRAINED = "unconstrained"
NAMES = (CONSTRAINED, UNCONSTRAINED)
VERSIONS_TTL_S = 5.0

Homography = tuple[float, ...]


class Models(Protocol):
    """Whoever finds the manipulated pixels.

    Every method raises Unavailable where the server is away, overloaded or too slow, and Broken where it answers
    nonsense.
    """

    async def constrained(self, upload: bytes, original: bytes, homography: Homography | None) -> Localisation:
        """Compare an upload with its original, both image files. Raises Rejected for a picture it cannot read.

        `homography` is nine numbers, row by row, from original to upload pixels at full oriented sizes; with None the
        model aligns the pair itself.
        """

    async def unconstrained(self, upload: bytes) -> Localisation:
        """Look at an upload, an image file, alone. Raises Rejected for a picture it cannot read."""

    async def versions(self) -> tuple[ModelVersion, ...]:
        """What would judge now, the constrained model first; at most a few seconds old."""

    async def ready(self) -> None:
        """Return if the server can judge now; Unavailable says what is missing."""

    async def close(self) -> None:
        """Close all connections."""


class TorchServeClient:
    """What clients of models on TorchServe's inference API at `url` share: the way there, and who answers.

    `names` are the models asked for; `key_file` is TorchServe's `key_file.json`, read again when the key is refused;
    `token` is for servers behind something else that checks tokens. `at` is the version of the archive to ask, instead
    of the one that serves. `watch` is for metrics; `clock` gives monotonic seconds.
    """

    names: tuple[str, ...]

    def __init__(
        self,
        url: str,
        *,
        limits: Limits,
        key_file: Path | None = None,
        token: str | None = None,
        at: str | None = None,
        versions_ttl_s: float = VERSIONS_TTL_S,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch = Watch(),  # noqa: B008 - frozen
    ) -> None:
        bearer = Bearer(DEPENDENCY, token=token, key_file=key_file)
        self._caller = Caller(url, dependency=DEPENDENCY, limits=limits, bearer=bearer, watch=watch, clock=clock)
        self.breaker = self._caller.breaker
        self._at = "" if at is None else f"/{quote(at, safe='')}"
        self._versions = Versions(self.names, self._describe, ttl_s=versions_ttl_s, clock=clock)

    async def ready(self) -> None:
        """A ping says whether every worker is healthy; the versions, that all of `names` are loaded."""
        await self._caller.probe(self._caller.request("GET", "/ping"), _read_ping)
        await self._versions.current()

    async def close(self) -> None:
        await self._versions.close()
        await self._caller.close()

    async def _describe(self, model: str) -> ModelVersion:
        # A name of None makes it a plain form field; `data=` alone would not be sent as multipart.
        request = self._caller.request("POST", f"/predictions/{model}{self._at}", files={"describe": (None, b"1")})
        return await self._caller.call(request, lambda answer: _read_version(answer, model))


class TorchServeModels(TorchServeClient):
    """`Models` on TorchServe; the parameters are those of `TorchServeClient`."""

    names = NAMES

    async def constrained(self, upload: bytes, original: bytes, homography: Homography | None) -> Localisation:
        files = {"upload": ("upload", upload), "original": ("original", original)}
        fields = {} if homography is None else {"homography": json.dumps(homography)}
        return await self._localise(CONSTRAINED, files, fields)

    async def unconstrained(self, upload: bytes) -> Localisation:
        return await self._localise(UNCONSTRAINED, {"upload": ("upload", upload)}, {})

    async def versions(self) -> tuple[ModelVersion, ...]:
        return await self._versions.current()

    async def _localise(self, model: str, files: dict[str, tuple[str, bytes]], fields: dict[str, str]) -> Localisation:
        request = self._caller.request("POST", f"/predictions/{model}{self._at}", files=files, data=fields)
        found = await self._caller.call(request, lambda answer: _read_localisation(answer, model))
        self._versions.learn(found.model)
        return found


class _Description(BaseModel):
    model: Annotated[str, Field(min_length=1)]
    version: Annotated[str, Field(min_length=1)]


def _read_localisation(answer: Answer, model: str) -> Localisation:
    if answer.status != 200:
        fail(answer, model)
    if answer.media_type != "image/png":
        raise Broken(f"model {model}: answered {answer.media_type or 'nothing'} instead of image/png: {answer.start}")
    return read_localisation(answer.body, model=model)


def _read_version(answer: Answer, model: str) -> ModelVersion:
    try:
        if answer.status != 200:
            fail(answer, model)
        said = _Description.model_validate_json(answer.body)
    except (Rejected, ValidationError) as error:
        # Rejected would blame an image, and there is none: the handler is of a release that does not know the question.
        raise Broken(
            f"model {model}: does not say its version when asked to describe itself: {answer.start}"
        ) from error
    if said.model != model:
        raise Broken(f"model {model}: the server hosts {said.model!r} under that name")
    return ModelVersion(name=said.model, version=said.version)


def _read_ping(answer: Answer) -> None:
    if answer.status != 200:
        fail(answer, "ping")


def fail(answer: Answer, model: str) -> NoReturn:
    """Raise what an answer that is not 200 means."""
    if answer.status in (401, 403) or (answer.status == 400 and b"InvalidKeyException" in answer.body):
        raise KeyRefused(
            DEPENDENCY, f"model {model}: the model server refuses the key; check PENTIMENTO_MODELS__KEY_FILE"
        )
    if (refusal := read_refusal(answer.body, model=model)) is not None:
        raise refusal
    if answer.status == 404:
        raise Unavailable(DEPENDENCY, f"model {model}: the model server has no such model (yet)")
    if answer.status == 413:
        raise Broken(f"model {model}: the request is too big for the model server; raise its max_request_size")
    if answer.status >= 500 or answer.status in (408, 429):
        raise Unavailable(DEPENDENCY, f"model {model}: the model server answered {answer.status}: {answer.start}")
    raise Broken(f"model {model}: the model server answered {answer.status}: {answer.start}")
