"""What the commands for many images share: options, reading a file within its limit, going on after a bad one.

In: files. Out: their bytes, and how a run ends. A bad file is a line with `error`, never an aborted run; the exit
status then is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from services.cli.console import fail, note, progress
from services.cli.results import RESULTS, Results
from services.core.errors import PentimentoError, Rejected

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for masks and results.jsonl.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="Threads of the models; 0: torch decides.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on: skip what has a line in results.jsonl.")]

BAD_FILE = (PentimentoError, OSError)
"""What a single file can raise: rejected, unreadable, or our own bug with just this one."""

T = TypeVar("T")


def each(
    todo: Sequence[T], one: Callable[[T], None], named: Callable[[T], dict[str, Any]], results: Results, *, skipped: int
) -> None:
    """Does one after the other with a progress bar, a bad file as a line with its error; fails at the end if any was.

    `named` gives the fields that say which file a line is about.
    """
    say_skipped(skipped)
    with progress() as bar:
        task = bar.add_task("looking", total=len(todo))
        for item in todo:
            try:
                one(item)
            except BAD_FILE as error:
                results.add_error(named(item), error)
            bar.advance(task)
    finish(results, len(todo) + skipped)


def say_skipped(count: int) -> None:
    """Says how many images an earlier run has done; nothing where it was none."""
    if count:
        note(f"{count} have a line in {RESULTS} already")


def finish(results: Results, total: int) -> None:
    """Ends a run over `total` images: exit status 1 where any of them has no result."""
    if results.errors:
        fail(f"{results.errors} of {total} files have no result: see the lines with `error` in {RESULTS}")


def read_file(path: Path, max_bytes: int) -> bytes:
    """A file's bytes. Raises OSError, and Rejected where there are more than `max_bytes`."""
    try:
        size = path.stat().st_size
    except ValueError as error:  # a name that no file can have
        raise FileNotFoundError(f"{str(path)!r}: {error}") from error
    if size > max_bytes:
        raise Rejected("too_large", f"{size} bytes are more than PENTIMENTO_INTAKE__MAX_BYTES allows")
    return path.read_bytes()
