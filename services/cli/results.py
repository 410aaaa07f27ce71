"""The folder that the offline commands write: a mask per image, and `results.jsonl` with a line per image.

In: results, one at a time. Out: `<stem>.png`, 8-bit grey, 0..255 = probability; and lines of JSON, each written as soon
as its image is done. A mask is there before its line is, so that a stopped run can be resumed by its lines.
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


class Results:
    """The open folder. `key` is the field that names an image in a line, e.g. `image`.

    With `resume` the lines of an earlier run stay, and `done` says whose they are; otherwise they are replaced.
    """

    def __init__(self, folder: Path, *, key: str, resume: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise wrong_use(f"{folder} cannot be a folder for results: {error.strerror}") from error
        self._folder = folder
        self._key = key
        self.done: set[str] = set()
        self.errors = 0
        self._owners: dict[str, str] = {}
        kept = self._earlier() if resume else []
        whole = "".join(f"{line}\n" for line in kept)
        self._file = (folder / RESULTS).open("w", encoding="utf-8")
        self._file.write(whole)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def claim(self, image: str) -> None:
        """Reserve the mask's name for an image. Raises Rejected where another image of this run has it."""
        owner = self._owners.setdefault(Path(image).stem, image)
        if owner != image:
            raise FileExistsError(f"its mask would replace the one of {owner}: give the two different names")

    def add(self, line: Mapping[str, Any], mask: npt.NDArray[np.uint8]) -> None:
        """Write an image's mask [H,W] uint8 and its line."""
        unfinished = self._folder / f".{Path(line[self._key]).stem}.png"
        unfinished.write_bytes(encode_png(mask))
        unfinished.replace(self._folder / f"{Path(line[self._key]).stem}.png")
        self._write(line)

    def add_error(self, line: Mapping[str, Any], why: Exception) -> None:
        """Write the line of a bad file: what it is, and why it has no result."""
        code = {"code": why.code} if isinstance(why, Rejected) else {}
        reason = why.strerror if isinstance(why, OSError) and why.strerror else str(why)
        self._write({**line, "error": reason, **code})
        self.errors += 1

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()

    def _earlier(self) -> list[str]:
        """The whole lines of an earlier run; a last one that was cut off is dropped."""
        try:
            text = (self._folder / RESULTS).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        kept = []
        for line in text.splitlines():
            try:
                said = json.loads(line)
                image = str(said[self._key])
            except (ValueError, TypeError, KeyError):
                continue
            kept.append(line)
            self.done.add(image)
            self.errors += "error" in said
            if "error" not in said:
                self._owners[Path(image).stem] = image
        return kept
