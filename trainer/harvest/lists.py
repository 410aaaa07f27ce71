"""The lists that a harvest starts from.

In: CSV or TSV files of pairs, the two files of PS-Battles, or a pool: a folder, a list of URLs, a WebDataset tar. Out:
`Pair`s and `Source`s in the list's order; a row that cannot be used is a `BadRow`, and the rest goes on.

Paths are relative to the list's folder (or `root`) and may not leave it: lists come from strangers, too.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.harvest.sources import BadRow, Pair, Source, is_url

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
FACTS = ("sha256", "licence", "author", "page")
"""What a list may say of a picture beside where it is."""

PAIR_COLUMNS = ("forged", "original", *(f"{side}_{fact}" for side in ("forged", "original") for fact in FACTS))
POOL_COLUMNS = ("url", *FACTS)
PS_BATTLES = ("originals.tsv", "photoshops.tsv")
MAX_SIDECAR_BYTES = 1_000_000

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SAME = {"license": "licence", "path": "url", "source": "page", "link": "page"}  # other people's words for ours

Columns = Mapping[str, str]
"""Our name of a column to the list's own; what is not in it has our name."""


class NoList(Exception):
    """The list as a whole cannot be used: says why, and what is needed."""


def read_pairs(file: Path, columns: Columns, *, root: Path | None = None) -> Iterator[Pair | BadRow]:
    """The pairs of a CSV, or TSV by its suffix. Raises NoList."""
    for line, cells in _records(file, columns, ("forged", "original")):
        if isinstance(cells, BadRow):
            yield cells
            continue
        try:
            forged, original = (_source(_facts(cells, side), root or file.parent) for side in ("forged", "original"))
            yield Pair(line, forged, original)
        except ValueError as error:
            yield BadRow(line, str(error))


def read_ps_battles(folder: Path) -> Iterator[Pair | BadRow]:
    """The pairs of PS-Battles (arXiv 1804.04866) as published: `photoshops.tsv` names the id of each original.

    It says who posted a picture and where, and nothing of licences. Raises NoList.
    """
    missing = [name for name in PS_BATTLES if not (folder / name).is_file()]
    if missing:
        raise NoList(f"{folder} has no {' and no '.join(missing)}: give the folder of the published lists")
    originals: dict[str, Source | BadRow] = {}
    for _, cells in _records(folder / PS_BATTLES[0], {}, ("id", "url", "hash")):
        if not isinstance(cells, BadRow):
            originals[cells["id"]] = _published(cells, folder)
    for line, cells in _records(folder / PS_BATTLES[1], {}, ("id", "original", "url", "hash")):
        if isinstance(cells, BadRow):
            yield cells
            continue
        forged, original = _published(cells, folder), originals.get(cells["original"])
        if isinstance(forged, BadRow):
            yield BadRow(line, forged.why)
        elif isinstance(original, Source):
            yield Pair(line, forged, original)
        else:
            yield BadRow(line, f"its original {cells['original']!r} has no usable row in {PS_BATTLES[0]}")


def read_pool(given: Path, columns: Columns, *, root: Path | None = None) -> Iterator[Source | BadRow]:
    """The pictures of a folder with everything below it, of a tar, or of a CSV or TSV with a column `url`.

    Raises NoList.
    """
    if given.is_dir():
        yield from _folder(given)
    elif given.suffix.lower() == ".tar":
        yield from _tar(given)
    else:
        for line, cells in _records(given, columns, ("url",)):
            if isinstance(cells, BadRow):
                yield cells
                continue
            try:
                yield _source({**cells, "place": cells["url"]}, root or given.parent)
            except ValueError as error:
                yield BadRow(line, str(error))


def _folder(folder: Path) -> Iterator[Source]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield Source(f"{folder.name}/{name.as_posix()}", path)


def _tar(file: Path) -> Iterator[Source | BadRow]:
    """The pictures of a WebDataset shard, with what the `.json` of the same key says of each."""
    said: dict[str, dict[str, str]] = {}
    found: list[Source] = []
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                if name.suffix.lower() in SUFFIXES:
                    found.append(Source(f"{file.name}!{member.name}", file, member.name))
                elif name.suffix == ".json" and member.size <= MAX_SIDECAR_BYTES:
                    opened = archive.extractfile(member)
                    said[name.with_suffix("").as_posix()] = _sidecar(opened.read() if opened else b"")
    except (OSError, tarfile.TarError) as error:
        raise NoList(f"{file} is no tar that can be read: {error}. Unpack a compressed one first") from error
    for number, source in enumerate(found, start=1):
        facts = said.get(PurePosixPath(source.member).with_suffix("").as_posix(), {})
        try:
            yield Source(source.place, source.file, source.member, **_said(facts))
        except ValueError as error:
            yield BadRow(number, str(error))


def _sidecar(data: bytes) -> dict[str, str]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    items: dict[str, Any] = value if isinstance(value, dict) else {}
    return {_SAME.get(name, name): text for name, text in items.items() if isinstance(text, str)}


def _records(file: Path, columns: Columns, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str] | BadRow]]:
    """The records of a table by our names, with the lines they begin on. Raises NoList."""
    tabs = file.suffix.lower() in (".tsv", ".tab")
    ours = {theirs: name for name, theirs in columns.items()}
    try:
        with file.open(newline="", encoding="utf-8-sig", errors="replace") as opened:
            lines = csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(opened)
            theirs = [name.strip() for name in next(lines, [])]
            header = [ours.get(name) or _our_word(name, columns) for name in theirs]
            lacking = [columns.get(name, name) for name in needed if name not in header]
            if lacking:
                raise NoList(f"{file} has no column {' and no column '.join(lacking)}: it has {', '.join(theirs)}")
            while True:
                line = lines.line_num + 1
                try:
                    cells = next(lines, None)
                except csv.Error as error:
                    yield line, BadRow(line, f"it is no row: {error}")
                    continue
                if cells is None:
                    return
                if len(cells) == len(header):
                    yield line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                elif cells:
                    yield line, BadRow(line, f"it has {len(cells)} cells for {len(header)} columns")
    except (OSError, csv.Error) as error:
        raise NoList(f"{file} cannot be read: {error}") from error


def _our_word(header: str, columns: Columns) -> str:
    """Our name of a column that `columns` does not mention; "" where another column has been given that name."""
    side, found, fact = header.partition("_")
    sided = found and side in ("forged", "original")
    name = f"{side}_{_SAME.get(fact, fact)}" if sided else _SAME.get(header, header)
    return "" if name in columns else name


def _facts(cells: Mapping[str, str], side: str) -> dict[str, str]:
    """What a row says of one side of its pair; a fact without a side is said of the forged picture."""
    shared = {fact: cells.get(fact, "") for fact in FACTS} if side == "forged" else {}
    sided = {fact: cells[f"{side}_{fact}"] for fact in FACTS if f"{side}_{fact}" in cells}
    return {**shared, **sided, "place": cells[side]}


def _published(cells: Mapping[str, str], folder: Path) -> Source | BadRow:
    facts = {"place": cells["url"], "sha256": cells["hash"], "author": cells.get("author", "")}
    try:
        return _source({**facts, "page": cells.get("page", "")}, folder)
    except ValueError as error:
        return BadRow(0, str(error))


def _source(facts: Mapping[str, str], root: Path) -> Source:
    """Raises ValueError where it cannot be used."""
    place = facts["place"]
    return Source(place, None if is_url(place) else root / _inside(place), **_said(facts))


def _said(facts: Mapping[str, str]) -> dict[str, str]:
    """What is said of a picture, by `FACTS`. Raises ValueError."""
    said = {fact: facts.get(fact, "") for fact in FACTS}
    if said["sha256"] and not _SHA256.fullmatch(said["sha256"]):
        raise ValueError(f"{said['sha256'][:80]!r} is no SHA-256 in hexadecimal")
    return {**said, "sha256": said["sha256"].lower()}


def _inside(place: str) -> PurePosixPath:
    if not place or "\0" in place:
        raise ValueError("it names no picture")
    inside = PurePosixPath(os.path.normpath(place))
    if inside.is_absolute() or ".." in inside.parts or "://" in place:
        raise ValueError(f"{place[:200]} is neither a http(s) URL nor a path below the list's folder: see --root")
    return inside
