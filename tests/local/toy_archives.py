"""A model archive that needs no weights: its handler answers how many requests came in one batch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

HANDLER = """
import os

def handle(data, context):
    if data is None:
        return None
    seen = {"batch": len(data), "threads": os.environ.get("PENTIMENTO_TORCH_THREADS"), "dsn": os.environ.get("TOY_DSN")}
    return [seen for _ in data]
"""


def toy_store(folder: Path, *names: str) -> Path:
    """Write `NAME.mar` for each name below `folder`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        model = {"modelName": name, "handler": "toy.py", "modelVersion": "1.0"}
        manifest = {"createdOn": "", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
        with zipfile.ZipFile(folder / f"{name}.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            archive.writestr("toy.py", HANDLER)
    return folder
