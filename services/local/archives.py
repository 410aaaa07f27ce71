"""The project's model archives, built when they are missing or when what they are made from has changed.

In: a folder and names of models. Out: the same folder with `*.mar` files that belong to the code and weights of
today. The builder `python -m model_archive.package` runs as a process of its own: the services never import torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.core.errors import Unavailable
from services.local.component import run_leashed
from services.local.files import write_whole

BUILDER = "model_archive.package"
SOURCES = ("*.py", "*.safetensors", "*.json", "*.md", "*.yaml")
BUILD_TIMEOUT_S = 300
STAMP = "built-from.sha256"


def built_archives(folder: Path, models: Sequence[str]) -> Path:
    """`folder`, with current archives of `models` and no others. Raises Unavailable when they cannot be built."""
    state = f"{_inputs_digest()} {' '.join(sorted(models))}"
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == state and any(folder.glob("*.mar")):
        return folder
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    chosen = [word for name in models for word in ("--model", name)]
    command = (sys.executable, "-m", BUILDER, "--out", str(fresh), *chosen)
    run_leashed("models", command, BUILD_TIMEOUT_S)
    write_whole(fresh / STAMP, state)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder


def _inputs_digest() -> str:
    """One digest over the names and contents of everything that goes into an archive."""
    spec = importlib.util.find_spec("model_archive")
    if spec is None or spec.origin is None:
        raise Unavailable("models", "the package model_archive is missing: reinstall pentimento")
    root = Path(spec.origin).parent
    digest = hashlib.sha256()
    for file in _sources(root):
        digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    yield from sorted(file for pattern in SOURCES for file in root.rglob(pattern))
