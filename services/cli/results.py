"""The folder that the offline commands write: a mask per image, and `results.jsonl` with a line per image.

In: results, one at a time. Out: `<stem>.png`, 8-bit grey, 0..255 = probability; `originals/<stem>.png` where an object
of an original was found; and lines of JSON, each written as soon as its image is done. Masks are there before their
line is, so that a stopped run can be resumed by its lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from services.cli.console import wrong_use
from services.core.errors import Rejected
from services.core.pixels import encode_png

RESULTS = "results.jsonl"
ORIGINALS = "originals"

Grey = npt.NDArray[np.uint8]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a folder's results, none where there are no results; one that was cut off is dropped.

    Raises OSError where the file cannot be read.
    """
    try:
        text = (folder / RESULTS).read_text(encoding="utf-8", errors="replace")  # it may be cut off within a character
    except FileNotFoundError:
        return []
    lines = []
    for each in text.split("\n"):  # not splitlines: a name may hold other separators
        try:
            line = json.loads(each)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def mask_path(folder: Path, image: str) -> Path:
    """Where the mask of an image is."""
    return folder / f"{Path(image).stem}.png"


class Results:
    """The open folder. `key` is the field that names an image in a line, e.g. `image`.

    With `resume` the lines of an earlier run stay: `earlier` holds them, `done` says whose they are. Otherwise they are
    replaced.
    """

    def __init__(self, folder: Path, *, key: str, resume: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise wrong_use(f"{folder} cannot be a folder for results: {error.strerror}") from error
        self._folder = folder
        self._key = key
        self.earlier = [line for line in read_lines(folder) if key in line] if resume else []
        self.done = {str(line[key]) for line in self.earlier}
        self.errors = sum("error" in line for line in self.earlier)
        good = [str(line[key]) for line in self.earlier if "error" not in line]
        self._owners = {Path(image).stem: image for image in good}
        whole = "".join(_text(line) for line in self.earlier)
        _replace(folder / RESULTS, whole.encode())
        self._file = (folder / RESULTS).open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def claim(self, image: str) -> None:
        """Reserve the mask's name for an image. Raises FileExistsError where another image of this run has it."""
        owner = self._owners.setdefault(Path(image).stem, image)
        if owner != image:
            raise FileExistsError(f"its mask would replace the one of {owner}: give the two different names")

    def add(self, line: Mapping[str, Any], mask: Grey, original_mask: Grey | None = None) -> None:
        """Write an image's mask [H,W] uint8 and its line.

        With `original_mask` [h,w] uint8, the object in the original, that too, and the line says where.
        """
        target = mask_path(self._folder, line[self._key])
        where = {}
        if original_mask is not None:
            (self._folder / ORIGINALS).mkdir(exist_ok=True)
            _replace(self._folder / ORIGINALS / target.name, encode_png(original_mask))
            where = {"original_mask": f"{ORIGINALS}/{target.name}"}
        _replace(target, encode_png(mask))
        self._write({**line, **where})

    def add_error(self, line: Mapping[str, Any], why: Exception) -> None:
        """Write the line of a bad file: what it is, and why it has no result."""
        code = {"code": why.code} if isinstance(why, Rejected) else {}
        reason = why.strerror if isinstance(why, OSError) and why.strerror else str(why)
        self._write({**line, "error": reason, **code})
        self.errors += 1

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(_text(line))
        self._file.flush()


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False) + "\n"


def _replace(file: Path, data: bytes) -> None:
    """Writes a file so that there is never half of it."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_bytes(data)
    unfinished.replace(file)
