"""What a harvest has done so far: journals that survive being killed, and the pictures by their content.

In: facts, one line of JSON each. Out: the latest facts by key. A line that was cut off counts as none, so that what it
was about is done once more. `Store` keeps a picture's bytes under their SHA-256; a file is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Facts = dict[str, Any]


class Journal:
    """A file of facts, of which the field `key` says what they are about. Only appended to."""

    def __init__(self, file: Path) -> None:
        """Raises OSError where the file cannot be read and written."""
        self._facts: dict[str, Facts] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a+", encoding="utf-8", errors="replace", newline="\n")
        self._file.seek(0)
        whole = True
        for line in self._file:
            whole = line.endswith("\n")
            if facts := _read(line):
                self._facts[facts["key"]] = facts
        if not whole:
            self._file.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def get(self, key: str) -> Facts | None:
        """The latest facts about a key."""
        return self._facts.get(key)

    def add(self, facts: Mapping[str, Any], *, lasting: bool = True) -> None:
        """Notes facts, at once; only for this run where they are not `lasting`."""
        self._facts[facts["key"]] = dict(facts)
        if lasting:
            self._file.write(json.dumps(facts, ensure_ascii=False) + "\n")
            self._file.flush()


class Store:
    """Pictures as files, named by the SHA-256 of their bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, digest: str) -> bool:
        return bool(digest) and self.path(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the content is, or would be."""
        return self.folder / digest[:2] / digest

    def add(self, data: bytes) -> str:
        """Keeps the bytes. Returns their SHA-256 in hexadecimal. Raises OSError."""
        digest = sha256(data).hexdigest()
        path = self.path(digest)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)
        return digest


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file so that there is never half of it, whoever else writes it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second harvest out of a folder. Raises BlockingIOError where another one is at work there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _read(line: str) -> Facts | None:
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and isinstance(facts.get("key"), str) else None
