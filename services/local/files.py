"""Files that appear whole, or not at all. In: a path and text. Out: the file, replaced in one step."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` beside `file` with the given mode and move it into place: a reader never sees half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as new:
        new.write(text)
    beside.replace(file)


def write_private(file: Path, text: str) -> None:
    """The same for secrets: nobody but the owner can read the file at any moment."""
    write_whole(file, text, 0o600)
