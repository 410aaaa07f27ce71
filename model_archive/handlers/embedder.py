"""TorchServe's entry to the embedder. See `serving` for the protocol and `embedding` for the model.

Request: the multipart field `upload`, or the image as the raw body. Answer: a safetensors file, see
`embedding.Embedded`.
"""

from __future__ import annotations

from model_archive.handlers import embedding, results, serving


class Embedder(serving.Entry[results.SingleRequest]):
    """The handler class that TorchServe finds in this module; it must stay the only one."""

    def __init__(self) -> None:
        super().__init__(embedding.embedder_model, results.single_request)
