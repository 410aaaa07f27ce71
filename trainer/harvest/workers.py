"""Work on pictures in processes of their own, so that none of them can end a harvest.

In: items and a function at the top level of a module. Out: each item with its result, as they come. Pictures come from
strangers, and one may make a decoder crash or take all memory: then the items that were being worked on are tried
again, each alone, and the one that ends its process again is `Rejected`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from types import TracebackType
from typing import Self, TypeVar

import cv2

from services.core.errors import PentimentoError, Rejected

AHEAD = 2  # items given out per process, so that none waits for the next one
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

T = TypeVar("T")
R = TypeVar("R")

Failure = PentimentoError | OSError
"""What a single item can raise."""


class Workers:
    """`count` processes, started when they are first needed, and kept until the context ends."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def each(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R | Failure]]:
        """Each item with what `function` made of it, or with the `Failure` that it raised. Items are taken as they are
        needed."""
        todo = iter(items)
        while (first := next(todo, None)) is not None:
            for item in (yield from self._tried(function, chain([first], todo))):
                for culprit in (yield from self._tried(function, iter([item]))):
                    yield culprit, Rejected("decoder_crashed", "it ended the process that looked at it, twice")

    def _tried(self, function: Callable[[T], R], todo: Iterator[T]) -> Generator[tuple[T, R | Failure], None, list[T]]:
        """Works until all is done or a process dies. Returns what was given out and is lost then."""
        waiting: dict[Future[R | Failure], T] = {}
        taken: list[T] = []
        pool = self._started()
        try:
            while True:
                taken.extend(islice(todo, AHEAD * self._count - len(waiting)))
                while taken:
                    future = pool.submit(_guarded, function, taken[0])
                    waiting[future] = taken.pop(0)
                if not waiting:
                    return []
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    answer = future.result()
                    yield waiting.pop(future), answer
        except BrokenProcessPool:
            wait(waiting)
            self._stop()
            for future in [each for each in waiting if each.exception() is None]:
                yield waiting.pop(future), future.result()
            return [*waiting.values(), *taken]

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            with _environment(_ONE_THREAD):
                self._pool = ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), _start)
                wait([self._pool.submit(os.getpid) for _ in range(self._count)])
        return self._pool

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _guarded(function: Callable[[T], R], item: T) -> R | Failure:
    """Runs in a worker."""
    try:
        return function(item)
    except (PentimentoError, OSError) as why:
        return why


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes start with meanwhile: libraries read them before we can tell them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start() -> None:
    """A worker's start: leaves Ctrl-C to the process that asked, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
