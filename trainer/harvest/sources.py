"""What is to be harvested, as values: where a picture is, and which two belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """Where a picture is, and what its list says of it.

    `place` is a URL, or a path as the list has it, or `<archive>!<member>`; `file` is the file to read, None for a URL;
    `sha256` is the content that the list announces, in hexadecimal, "" where it announces none; `page` is where the
    picture was published.
    """

    place: str
    file: Path | None = None
    member: str = ""
    sha256: str = ""
    licence: str = ""
    author: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of a list: a forged picture and, unless that is still to be found, the original it was made from."""

    line: int
    forged: Source
    original: Source | None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a list that cannot be used, and why."""

    line: int
    why: str


def is_url(place: str) -> bool:
    """Whether a place is one of the web."""
    return place.lower().startswith(("https://", "http://"))
