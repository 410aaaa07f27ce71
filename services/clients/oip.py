"""The model server by the Open Inference Protocol v2 over REST, for Triton, KServe and MLServer: `Models` once more.

In and out as in `models.py`. It exists because TorchServe is archived. The protocol, as used here:

    POST /v2/models/{constrained|unconstrained}/infer
         inputs   upload, original   BYTES [1], base64 in JSON with parameter content_type "base64"
                  homography         FP64 [9], only where known
         outputs  localisation       BYTES [1], base64: the PNG of `localisation.py`
             or   error              BYTES [1]: the JSON of a handler's refusal; the protocol's own errors are for
                                     the server's troubles and know no kinds
    GET  /v2/models/{name}           `versions`: the last one must be the version that the PNGs name
    GET  /v2/health/ready

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.clients.calling import Answer, Bearer, Caller, KeyRefused, Limits, Watch
from services.clients.localisation import Localisation, read_localisation, read_refusal
from services.clients.models import CONSTRAINED, DEPENDENCY, NAMES, UNCONSTRAINED, VERSIONS_TTL_S, Homography
from services.clients.versions import Versions
from services.core.errors import Broken, Unavailable
from services.core.events import ModelVersion


class OipModels:
    """`Models` on a server of the Open Inference Protocol at `url`. Arguments as for `TorchServeModels`."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits,
        token: str | None = None,
        versions_ttl_s: float = VERSIONS_TTL_S,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch = Watch(),  # noqa: B008 - frozen
    ) -> None:
        self._caller = Caller(
            url, dependency=DEPENDENCY, limits=limits, bearer=Bearer(DEPENDENCY, token=token), watch=watch, clock=clock
        )
        self.breaker = self._caller.breaker
        self._versions = Versions(NAMES, self._metadata, ttl_s=versions_ttl_s, clock=clock)

    async def constrained(self, upload: bytes, original: bytes, homography: Homography | None) -> Localisation:
        tensors = [_bytes_tensor("upload", upload), _bytes_tensor("original", original)]
        if homography is not None:
            tensors.append({"name": "homography", "datatype": "FP64", "shape": [9], "data": list(homography)})
        return await self._localise(CONSTRAINED, tensors)

    async def unconstrained(self, upload: bytes) -> Localisation:
        return await self._localise(UNCONSTRAINED, [_bytes_tensor("upload", upload)])

    async def versions(self) -> tuple[ModelVersion, ...]:
        return await self._versions.current()

    async def ready(self) -> None:
        await self._caller.probe(self._caller.request("GET", "/v2/health/ready"), _read_ready)
        for model in NAMES:
            path = f"/v2/models/{model}/ready"
            await self._caller.probe(self._caller.request("GET", path), _read_ready)

    async def close(self) -> None:
        await self._versions.close()
        await self._caller.close()

    async def _localise(self, model: str, tensors: list[dict[str, Any]]) -> Localisation:
        request = self._caller.request("POST", f"/v2/models/{model}/infer", json={"inputs": tensors})
        found = await self._caller.call(request, lambda answer: _read_infer(answer, model))
        self._versions.learn(found.model)
        return found

    async def _metadata(self, model: str) -> ModelVersion:
        request = self._caller.request("GET", f"/v2/models/{model}")
        return await self._caller.call(request, lambda answer: _read_metadata(answer, model))


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    datatype: str
    data: list[Any]

    def only(self, model: str) -> str:
        """The one element of a BYTES tensor."""
        if self.datatype != "BYTES" or len(self.data) != 1 or not isinstance(self.data[0], str):
            raise Broken(f"model {model}: output {self.name} is {self.datatype} of {len(self.data)}; want one of BYTES")
        return self.data[0]


class _Inference(BaseModel):
    outputs: list[_Tensor]


class _Metadata(BaseModel):
    name: str
    versions: Annotated[list[str], Field(min_length=1)]


def _bytes_tensor(name: str, value: bytes) -> dict[str, Any]:
    text = base64.b64encode(value).decode("ascii")
    return {"name": name, "datatype": "BYTES", "shape": [1], "parameters": {"content_type": "base64"}, "data": [text]}


def _read_infer(answer: Answer, model: str) -> Localisation:
    if answer.status != 200:
        _fail(answer, model)
    try:
        outputs = {tensor.name: tensor for tensor in _Inference.model_validate_json(answer.body).outputs}
    except ValidationError as error:
        raise Broken(f"model {model}: the answer is no inference response: {answer.start}") from error
    if "error" in outputs:
        text = outputs["error"].only(model)
        raise read_refusal(text, model=model) or Broken(f"model {model}: unreadable error output: {text[:300]}")
    if "localisation" not in outputs:
        raise Broken(f"model {model}: outputs are {sorted(outputs)}; want localisation or error")
    try:
        png = base64.b64decode(outputs["localisation"].only(model), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Broken(f"model {model}: output localisation is not base64") from error
    return read_localisation(png, model=model)


def _read_metadata(answer: Answer, model: str) -> ModelVersion:
    if answer.status != 200:
        _fail(answer, model)
    try:
        said = _Metadata.model_validate_json(answer.body)
    except ValidationError as error:
        raise Broken(f"model {model}: the metadata name no version; set `versions` in the model's settings") from error
    return ModelVersion(name=model, version=said.versions[-1])


def _read_ready(answer: Answer) -> None:
    if answer.status != 200:
        raise Unavailable(DEPENDENCY, f"the model server is not ready (status {answer.status})")


def _fail(answer: Answer, model: str) -> NoReturn:
    """Raise what an answer that is not 200 means. The protocol's errors are `{"error": text}`."""
    if answer.status in (401, 403):
        raise KeyRefused(
            DEPENDENCY, f"model {model}: the model server refuses the token; check PENTIMENTO_MODELS__TOKEN"
        )
    # MLServer answers 400, Triton 503 (or 400) for a model that is still loading.
    loading = answer.status == 400 and b"not ready" in answer.body
    if answer.status >= 500 or answer.status in (404, 408, 429) or loading:
        raise Unavailable(DEPENDENCY, f"model {model}: the model server answered {answer.status}: {answer.start}")
    if answer.status == 413:
        raise Broken(f"model {model}: the request is too big for the model server; raise its limit")
    raise Broken(f"model {model}: the model server answered {answer.status}: {answer.start}")
