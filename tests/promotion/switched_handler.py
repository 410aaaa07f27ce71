"""A tiny model whose archive says which version it is, and which file makes it fail. Runs inside of a model archive."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

from PIL import Image
from tiny_model import png_of  # type: ignore[import-not-found]

SWITCH = json.loads((Path(__file__).parent / "switch.json").read_text())
time.sleep(SWITCH["load_s"])
if SWITCH["broken"]:
    raise RuntimeError("this version does not load")


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    """One body per item. TorchServe's first call, which only loads, has no data."""
    if data is None:
        return None
    if Path(SWITCH["fails_with"]).exists():
        raise RuntimeError("this version fails")
    return [_one(index, item, context) for index, item in enumerate(data)]


def _one(index: int, item: dict[str, Any], context: Any) -> bytes:
    name = context.manifest["model"]["modelName"]
    if "describe" in item:
        context.set_response_content_type(index, "application/json")
        return json.dumps({"model": name, "version": SWITCH["version"]}).encode()
    context.set_response_content_type(index, "image/png")
    picture = Image.open(io.BytesIO(bytes(item["upload"]))).convert("L")
    said = {"model": name, "version": SWITCH["version"], "score": 0.75, "qes": 0.5, "seconds": 0.0}
    return bytes(png_of(picture, said))
