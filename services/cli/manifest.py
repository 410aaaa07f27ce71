"""The manifest of a library: a CSV with a picture a row, and which of its rows were sent before.

In: a CSV with the columns `path[,name][,source]`, paths relative to its folder. Out: rows, one at a time, so that a
manifest of any length fits; a row that cannot be used is a value of its own, and the rest goes on.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from services.cli.console import fail, note, wrong_use
from services.cli.sources import FileSource

COLUMNS = ("path", "name", "source")
SOURCE_CHARACTERS = 200  # as many as OriginalRegistered takes
KEY_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Row:
    """A picture to register: the line it begins on, its path below the manifest's folder, its file with the name it
    goes by, and who vouches for it."""

    line: int
    path: str
    picture: FileSource
    source: str

    def key(self, tenant: str) -> str:
        """What the state file knows the row by: its tenant, path, name and source, not its place or its picture."""
        parts = (tenant, self.path, self.picture.name, self.source)
        return sha256(json.dumps(parts).encode()).hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    why: str


class _Unusable(Exception):
    """Why a row cannot be used."""


def read_manifest(file: Path, *, source: str) -> Iterator[Row | BadRow]:
    """The rows of a manifest as they are read; empty lines are left out. `source` is for rows that name none.

    Pictures are not looked at. Bytes that are no UTF-8 become U+FFFD, so that such a path is a missing file. Wrong use
    where the file cannot be read or its header names no `path`.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as opened:
            lines = csv.reader(opened)
            header = [name.strip() for name in next(lines, [])]
            if "path" not in header:
                raise wrong_use(f"{file} has no column path: its first line must name path, and may name name, source")
            if ignored := [name for name in header if name not in COLUMNS]:
                note(f"{file}: ignored the columns {', '.join(ignored)}")
            for line, cells in _records(lines):
                try:
                    if isinstance(cells, csv.Error):
                        raise _Unusable(f"it is no CSV: {cells}")
                    if cells:
                        yield _row(line, header, cells, file.parent, source)
                except _Unusable as why:
                    yield BadRow(line, str(why))
    except (OSError, csv.Error) as error:
        raise wrong_use(f"{file} cannot be read: {error}") from error


class SentRows:
    """The state file beside a manifest: a line for each row that the broker acknowledged.

    A line that was cut off counts as none: its row is sent once more, which changes nothing. `again` forgets them all.
    Where the file cannot be read or written, the command fails and says so.
    """

    def __init__(self, manifest: Path, *, again: bool = False) -> None:
        self.file = manifest.with_name(f"{manifest.name}.done")
        self._keys: set[bytes] = set()  # 16 bytes a row: millions of them fit
        with _needed(self.file):
            self._file = self.file.open("w+" if again else "a+", encoding="ascii", errors="replace", newline="\n")
            self._file.seek(0)
            cut_off = False
            for line in self._file:
                cut_off = not line.endswith("\n")
                if len(line) == KEY_DIGITS + 1 and not cut_off:
                    self._keys.add(_digest(line))
            if cut_off:
                self._file.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return _digest(key) in self._keys

    def add(self, key: str) -> None:
        """Notes a row, at once."""
        self._keys.add(_digest(key))
        with _needed(self.file):
            self._file.write(f"{key}\n")
            self._file.flush()


@contextmanager
def _needed(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fail(
            f"{file}, which notes the rows that were sent, cannot be used ({error.strerror}): make its folder writable"
        )


def _digest(key: str) -> bytes:
    try:
        return bytes.fromhex(key)
    except ValueError:  # not a line of ours
        return b""


def _records(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """The records with the number of the line on which each begins; one that is no CSV as its error."""
    while True:
        line = lines.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(lines, None)
        except csv.Error as error:
            yield line, error
            continue
        if cells is None:
            return
        yield line, cells


def _row(line: int, header: list[str], cells: list[str], folder: Path, source: str) -> Row:
    if len(cells) != len(header):
        raise _Unusable(f"it has {len(cells)} cells for {len(header)} columns; a cell with a comma needs quotes")
    named = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    inside = _inside(named["path"])
    vouching = named.get("source") or source
    if len(vouching) > SOURCE_CHARACTERS:
        raise _Unusable(f"its source has {len(vouching)} characters, and {SOURCE_CHARACTERS} is the most")
    return Row(line, inside.as_posix(), FileSource(folder / inside, named.get("name") or inside.as_posix()), vouching)


def _inside(path: str) -> PurePosixPath:
    """The path without `.` and `..`: what was examined is what will be opened, whatever links lie in between."""
    if not path:
        raise _Unusable("its path is empty")
    if "\0" in path:
        raise _Unusable("its path holds a NUL character")
    inside = PurePosixPath(os.path.normpath(path))
    if inside.is_absolute() or ".." in inside.parts:
        raise _Unusable(f"{path} is outside the manifest's folder: move the file or the manifest")
    return inside
