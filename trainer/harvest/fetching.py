"""The first stage: every picture of the lists into the store, by its content.

In: `Source`s. Out: their bytes in the `Store`, and in the journal a line for each: `fetched` with the SHA-256, or why
not (`download.Refusal`). What is there already is neither fetched nor read again; that goes for content, too, that a
list announces by its SHA-256. Bytes are not looked at here.
"""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from services.clients.fetch import Fetcher
from trainer.harvest.download import Delivery, Downloader, Refusal
from trainer.harvest.journal import Facts, Journal, Store
from trainer.harvest.lanes import Pace
from trainer.harvest.sources import Source

Open = Callable[[], Fetcher]
"""Makes the fetcher, in the event loop that it is used in."""


@dataclass(frozen=True, slots=True)
class Web:
    """How the web is asked: through which fetcher, and how fast."""

    fetcher: Open
    pace: Pace


def key_of(source: Source) -> str:
    """What the journal knows a picture by: its URL, or its file as it is now."""
    if source.file is None:
        return source.place
    try:
        state = source.file.stat()
    except (OSError, ValueError):  # a name that no file can have
        return str(source.file)
    return f"{source.file.resolve()}!{source.member}@{state.st_mtime_ns}:{state.st_size}"


def found(source: Source, store: Store, journal: Journal) -> Facts:
    """What came of a picture: `state`, and `sha256` with `at` and `url`, or `why` not.

    Content that the list announces and that is here needed no request; what was fetched must be what it announces.
    """
    known = journal.get(key_of(source)) or {"state": "failed", "why": "it is gone"}
    if not source.sha256 or known.get("sha256") == source.sha256:
        return known
    if source.sha256 in store:
        return {"state": "fetched", "sha256": source.sha256}
    if known["state"] == "fetched":
        return {"state": "failed", "why": "its content is not what the list announces: it was replaced since"}
    return known


def _is_settled(source: Source, store: Store, known: Facts | None, *, again: bool) -> bool:
    """Whether a picture needs no request: it is here, or will never be, unless it is tried `again`."""
    if source.sha256 in store:
        return True
    if known is None:
        return False
    return known["sha256"] in store if known["state"] == "fetched" else known["state"] == "failed" and not again


def fetch(
    sources: Iterable[Source],
    store: Store,
    journal: Journal,
    web: Web,
    max_bytes: int,
    advance: Callable[[], None],
    *,
    again: bool = False,
) -> int:
    """Gets what is not there yet, files first; `advance` is called for each picture. Returns how many that were.

    `again` asks once more for URLs that failed before. Raises OSError where the store or an archive cannot be used.
    """
    todo: dict[str, Source] = {}
    for source in sources:
        key = key_of(source)
        if key in todo or _is_settled(source, store, journal.get(key), again=again and source.file is None):
            advance()
        else:
            todo[key] = source
    files = {key: source for key, source in todo.items() if source.file is not None}
    for key, content in _contents(files, max_bytes):
        journal.add(_refused(key, "failed", content) if isinstance(content, str) else _fetched(key, content, store))
        advance()
    urls = [key for key, source in todo.items() if source.file is None]
    if urls:
        asyncio.run(_download(urls, store, journal, web, advance))
    return len(todo)


async def _download(urls: Iterable[str], store: Store, journal: Journal, web: Web, advance: Callable[[], None]) -> None:
    def settled(url: str, outcome: Delivery | Refusal) -> None:
        if isinstance(outcome, Delivery):
            journal.add(_fetched(url, outcome.data, store, outcome.url))
        else:
            journal.add(_refused(url, outcome.state, outcome.why))
        advance()

    async with AsyncExitStack() as stack:
        fetcher = web.fetcher()
        stack.push_async_callback(fetcher.close)
        await Downloader(fetcher, web.pace).fetch_all(urls, settled)


def _contents(files: Mapping[str, Source], max_bytes: int) -> Iterator[tuple[str, bytes | str]]:
    """Each file's bytes, or why it has none."""
    for archive, group in groupby(files.items(), key=lambda item: item[1].file if item[1].member else None):
        with tarfile.open(archive, "r:") if archive else nullcontext() as opened:
            for key, source in group:
                try:
                    data = _member(opened, source, max_bytes) if opened else _file(source, max_bytes)
                except (OSError, ValueError, KeyError, tarfile.TarError) as error:
                    yield key, error.strerror or str(error) if isinstance(error, OSError) else str(error)
                else:
                    yield key, data


def _file(source: Source, max_bytes: int) -> bytes:
    if source.file is None:
        raise ValueError("a URL is no file")
    _check_size(source.file.stat().st_size, max_bytes)
    return source.file.read_bytes()


def _member(archive: tarfile.TarFile, source: Source, max_bytes: int) -> bytes:
    member = archive.getmember(source.member)
    _check_size(member.size, max_bytes)
    opened = archive.extractfile(member)
    if opened is None:
        raise ValueError("it is no file within its archive")
    return opened.read()


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(f"{size} bytes are more than the {max_bytes} of --max-bytes")


def _fetched(key: str, data: bytes, store: Store, url: str = "") -> Facts:
    """Keeps the bytes; `url` is where they came from in the end."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"key": key, "state": "fetched", "sha256": store.add(data), "bytes": len(data), "url": url, "at": now}


def _refused(key: str, state: str, why: str) -> Facts:
    return {"key": key, "state": state, "why": why}
