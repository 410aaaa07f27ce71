"""Where untrusted pictures are decoded: in processes of their own, whose cost and crashes stop no worker.

In: a top-level function of `services.core` and its arguments. Out: its result. A decoder that crashes, eats memory or
takes too long costs its own picture a rejection; whatever else was in the pool is done again.
"""

from __future__ import annotations

import asyncio
import ctypes
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

import structlog

from services.core.errors import Rejected

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")

PR_SET_PDEATHSIG = 1
MEMORY_BYTES = 6 * 2**30  # address space of one process; a 64-megapixel picture needs well below 2 GB


class DecodePool:
    """A process pool that survives its work; what kills a process alone is Rejected("decoder_crashed").

    `niceness` is how far its processes give way to others, as of `nice`: 0 not at all.
    """

    def __init__(self, *, workers: int, timeout_s: float, niceness: int = 0) -> None:
        self._workers = workers
        self._timeout_s = timeout_s
        self._niceness = niceness
        self._executor = self._fresh()
        self._alone = asyncio.Lock()
        self._places = asyncio.Semaphore(workers)  # so that the time limit measures work, not waiting

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`function(*args, **kwargs)` in another process. Errors of the function itself come through as they are."""
        async with self._places:
            executor = self._executor
            try:
                return await self._attempt(executor, function, *args, **kwargs)
            except BrokenProcessPool:
                self._replace(executor)
        # Somebody's picture broke the pool: find out whose, one at a time, in a pool that nobody else uses.
        async with self._alone:
            lonely = self._fresh(workers=1)
            try:
                return await self._attempt(lonely, function, *args, **kwargs)
            except BrokenProcessPool as error:
                log.warning("decoder_crashed", function=function.__name__)
                raise Rejected("decoder_crashed", "The process that decoded it died.") from error
            finally:
                _kill(lonely)

    async def _attempt(
        self, executor: ProcessPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        future = executor.submit(function, *args, **kwargs)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout_s)
        except TimeoutError as error:
            if executor is self._executor:
                self._replace(executor)
            raise Rejected("decoder_crashed", f"Decoding took longer than {self._timeout_s:.0f} s.") from error
        except MemoryError as error:
            raise Rejected("decoder_crashed", "Decoding needs more memory than is allowed.") from error

    def _fresh(self, workers: int | None = None) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=workers or self._workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_process,
            initargs=(os.getpid(), self._niceness),
        )

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        if self._executor is broken:
            self._executor = self._fresh()
            _kill(broken)

    def close(self) -> None:
        """Ends the processes."""
        _kill(self._executor)


def _start_process(parent: int, niceness: int) -> None:
    """Dies with its parent, keeps to one thread, has a memory limit, leaves signals for the worker to the worker."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before we asked to be told
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(niceness)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    import cv2

    cv2.setNumThreads(1)


def _kill(executor: ProcessPoolExecutor) -> None:
    processes = list((executor._processes or {}).values())
    for process in processes:
        process.kill()
    executor.shutdown(wait=False, cancel_futures=True)
