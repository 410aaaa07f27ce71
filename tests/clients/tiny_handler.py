"""The tiny model as a handler of TorchServe, with the project's wire contract. Runs inside of a model archive."""

from __future__ import annotations

import json
import os
from typing import Any

from tiny_model import VERSIONS, Refused, localise  # type: ignore[import-not-found]


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """One body per item. TorchServe's first call, which only loads, has no data."""
    if data is None:
        return None
    return [_one(index, item, context) for index, item in enumerate(data)]


def _one(index: int, item: dict[str, Any], context: Any) -> bytes:
    name = context.manifest["model"]["modelName"]
    context.set_response_content_type(index, "application/json")
    if "describe" in item:
        return json.dumps({"model": name, "version": VERSIONS[name]}).encode()
    if bytes(item["upload"]) == b"kill the worker":
        os._exit(1)  # as the kernel does to a process that needs too much memory
    try:
        png = localise(name, bytes(item["upload"]), bytes(item["original"]) if "original" in item else None)
    except Refused as refusal:
        context.set_response_status(code=422, idx=index)
        return str(refusal).encode()
    context.set_response_content_type(index, "image/png")
    return bytes(png)
