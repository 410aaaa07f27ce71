"""The tiny model as a custom runtime of MLServer. Runs in MLServer's own Python environment, without our packages."""

from __future__ import annotations

import base64

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]

from tests.clients.tiny_model import Refused, localise


class TinyRuntime(MLModel):  # type: ignore[misc]
    """Serves the model of its own name: `constrained` or `unconstrained`."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        files = {tensor.name: self.decode(tensor)[0] for tensor in payload.inputs if tensor.datatype == "BYTES"}
        try:
            data = base64.b64encode(localise(self.name, files["upload"], files.get("original"))).decode("ascii")
            output = ResponseOutput(name="localisation", datatype="BYTES", shape=[1], data=[data])
        except Refused as refusal:
            output = ResponseOutput(name="error", datatype="BYTES", shape=[1], data=[str(refusal)])
        return InferenceResponse(model_name=self.name, outputs=[output])
