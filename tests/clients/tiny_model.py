"""A small model with the wire contract of the real ones, for servers that tests start: bright pixels count as edited.

In: image files. Out: the PNG that a model server answers, or the JSON of a refusal. Nothing but Pillow and the standard
library is imported, because a model server with its own Python environment runs this file too.
"""

from __future__ import annotations

import io
import json
import time

from PIL import Image, PngImagePlugin, UnidentifiedImageError

VERSIONS = {"constrained": "1.0.0+aaaaaaaaaaaa", "unconstrained": "2.0.0+bbbbbbbbbbbb"}


class Refused(Exception):
    """The picture cannot be read; the text is the JSON that a handler answers."""


def localise(model: str, upload: bytes, original: bytes | None = None) -> bytes:
    """The answer of `model` for an upload: an 8-bit grey PNG of its size, with what the model says about it."""
    started = time.perf_counter()
    picture = _open(upload)
    compared = {} if original is None else {"kind": "spg", "inliers": 120, "overlap": 0.97}
    if original is not None:
        _open(original)
    said = {"model": model, "version": VERSIONS[model], "score": 0.75, "qes": 0.5, **compared}
    return png_of(picture, {**said, "seconds": time.perf_counter() - started})


def png_of(picture: Image.Image, said: dict[str, object], *, keyword: str = "pentimento") -> bytes:
    """`picture` as PNG; its size is added to what is said unless it is there."""
    text = PngImagePlugin.PngInfo()
    text.add_text(keyword, json.dumps({"width": picture.width, "height": picture.height, **said}))
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=text)
    return out.getvalue()


def photo(width: int = 96, height: int = 64) -> bytes:
    """A JPEG of a colour gradient with a bright square."""
    picture = Image.merge("RGB", [Image.linear_gradient("L").resize((width, height)) for _ in range(3)])
    picture.paste((255, 255, 255), (width // 4, height // 4, width // 2, height // 2))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("L")
    except (UnidentifiedImageError, OSError) as error:
        fault = {"kind": "rejected", "code": "corrupt", "message": f"cannot be decoded: {type(error).__name__}"}
        raise Refused(json.dumps({"error": fault})) from error
