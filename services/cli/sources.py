"""Which images a command was given: files, folders and URLs on its command line.

In: arguments as typed. Out: `Source` values in a stable order. Folders are searched for names that look like images;
a file that is named itself is always taken, since what it really is only its content tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.cli.console import wrong_use

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file. `name` is its path below the folder that was given, or its own name."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An `https://` URL that the services are to fetch."""

    url: str

    @property
    def name(self) -> str:
        return self.url


Source = FileSource | UrlSource


def sources(arguments: Iterable[str]) -> list[Source]:
    """What the arguments name, in order, folders with their content. Wrong use where a path does not exist."""
    found: list[Source] = []
    for argument in arguments:
        if argument.startswith(("https://", "http://")):
            found.append(UrlSource(argument))
        else:
            found.extend(files([Path(argument)]))
    return found


def files(paths: Iterable[Path], *, missing: bool = False) -> list[FileSource]:
    """The files that the paths name. Wrong use where a folder holds no images, or a path does not exist.

    With `missing` a path that does not exist is taken for a file that will turn out to be bad.
    """
    found: list[FileSource] = []
    for path in paths:
        if path.is_dir():
            inside = list(_inside(path))
            if not inside:
                raise wrong_use(f"{path} holds no images (names that end in {', '.join(SUFFIXES)})")
            found.extend(inside)
        elif path.exists() or missing:
            found.append(FileSource(path, path.name))
        else:
            raise wrong_use(f"{path} does not exist")
    return found


def _inside(folder: Path) -> Iterator[FileSource]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield FileSource(path, name.as_posix())
