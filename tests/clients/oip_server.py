"""A small server of the Open Inference Protocol v2 for tests: the tiny model behind its REST endpoints."""

from __future__ import annotations

import base64

from aiohttp import web

from tests.clients.tiny_model import VERSIONS, Refused, localise


async def answer(request: web.Request) -> web.StreamResponse:
    """Any request of the protocol that our client sends."""
    match request.path.strip("/").split("/"):
        case ["v2", "health", "ready"]:
            return web.Response()
        case ["v2", "models", name, "ready"] if name in VERSIONS:
            return web.Response()
        case ["v2", "models", name] if name in VERSIONS:
            return web.json_response({"name": name, "versions": [VERSIONS[name]], "platform": "tiny", "inputs": []})
        case ["v2", "models", name, "infer"] if name in VERSIONS:
            body = await request.json()
            return web.json_response({"model_name": name, "id": "1", "outputs": [infer(name, body["inputs"])]})
    return web.json_response({"error": f"no such model or path: {request.path}"}, status=404)


def infer(model: str, inputs: list[dict[str, object]]) -> dict[str, object]:
    """The output tensor for the input tensors of one request."""
    tensors = {str(tensor["name"]): tensor for tensor in inputs}
    files = {
        name: base64.b64decode(tensors[name]["data"][0], validate=True)  # type: ignore[index]
        for name in ("upload", "original")
        if name in tensors
    }
    if "homography" in tensors:
        assert tensors["homography"]["shape"] == [9]
        assert tensors["homography"]["datatype"] == "FP64"
    try:
        png = localise(model, files["upload"], files.get("original"))
    except Refused as refusal:
        return {"name": "error", "datatype": "BYTES", "shape": [1], "data": [str(refusal)]}
    text = base64.b64encode(png).decode("ascii")
    return {
        "name": "localisation",
        "datatype": "BYTES",
        "shape": [1],
        "parameters": {"content_type": "base64"},
        "data": [text],
    }
