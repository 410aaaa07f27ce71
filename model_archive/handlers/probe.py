"""Answers one request with an unpacked archive's own code, as a TorchServe worker would, without any server.

`python -m model_archive.handlers.probe MODEL_DIR REQUEST_DIR OUT`, run with the archive's folder as working directory,
so that nothing but the archive is tested. In: one file per form field, named like it. Out: the body in the file OUT,
and status and content type as JSON on standard output.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class LocalContext:
    """The part of TorchServe's context that handlers use; remembers what they set."""

    manifest: dict[str, Any]
    system_properties: dict[str, Any]
    statuses: dict[int, int] = field(default_factory=dict)
    content_types: dict[int, str] = field(default_factory=dict)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """HTTP status of one item."""
        del phrase
        self.statuses[idx] = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Content type of one item."""
        self.content_types[idx] = value


def opened(model_dir: Path) -> tuple[Any, LocalContext]:
    """The archive's handler, initialised, and its context. Raises ValueError where it has not exactly one class."""
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    context = LocalContext(manifest, {"model_dir": str(model_dir)})
    name = Path(manifest["model"]["handler"]).stem
    module = importlib.import_module(name)
    classes: list[Any] = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == name]
    if len(classes) != 1:
        raise ValueError(f"{name}.py must define one class for TorchServe to find, it defines {len(classes)}")
    handler = classes[0]()
    handler.initialize(context)
    return handler, context


def main(arguments: list[str]) -> int:
    """Command line entry; returns the exit status."""
    model_dir, request_dir, out = (Path(argument).resolve() for argument in arguments)
    if model_dir not in Path(__file__).resolve().parents:
        raise SystemExit(f"{__file__} is not part of the archive in {model_dir}: run it from there")
    handler, context = opened(model_dir)
    fields = {path.stem: path.read_bytes() for path in sorted(request_dir.iterdir())}
    out.write_bytes(handler.handle([fields], context)[0])
    print(json.dumps({"status": context.statuses.get(0, 200), "content_type": context.content_types[0]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
