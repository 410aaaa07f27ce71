"""Pairs of a forged image and its original, each to its mask and its line: in this process or in several.

In: the rows of a CSV. Out: an `Annotation` for each, or the error that says why it has none, as they come. Several
processes load the models once each; the results are written by the one that asked.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import cv2

from services.cli.batch import BAD_FILE, read_file
from services.cli.looking import Grey, Models, model_name
from services.core.errors import PentimentoError, Unavailable
from services.core.judge.mask import flagged
from services.core.policy import Policy

if TYPE_CHECKING:
    from model_archive.handlers.results import Analysis

Row = dict[str, str]
"""`{"forged": ..., "original": ...}`: paths as the CSV has them."""

DIGITS = 9  # significant ones of a homography's numbers: far below a pixel, for the largest pictures too
AHEAD = 2  # pairs given out per process, so that none waits for the next one


@dataclass(frozen=True, slots=True)
class Setup:
    """How pairs are annotated. `folder` is what the rows' paths are relative to; `flips` averages over mirror images;
    `threads` of the models, where 0 leaves the choice to torch in one process and means 1 in each of several."""

    folder: Path
    policy: Policy
    max_bytes: int
    flips: bool = True
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Annotation:
    """A pair's line of results.jsonl and its masks: `mask` [H,W] uint8 of the forged image, 0..255 = probability, and
    `original_mask` [h,w] uint8 of the original where an object was taken from it."""

    line: dict[str, Any]
    mask: Grey
    original_mask: Grey | None


Answer = Annotation | PentimentoError | OSError
"""What a row comes to. An error is this one pair's."""


class Annotator:
    """The pair model, loaded, that annotates rows. Raises Broken where it cannot be loaded."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._models = Models("constrained", threads=setup.threads, flips=setup.flips)

    def __call__(self, row: Row) -> Answer:
        """The row's annotation, or why it has none."""
        started = perf_counter()
        try:
            forged, original = (
                read_file(self._setup.folder / row[name], self._setup.max_bytes) for name in ("forged", "original")
            )
            analysis = self._models.constrained(forged, original)
        except BAD_FILE as error:
            return error
        line = {**row, **facts(analysis, self._setup.policy), "seconds": round(perf_counter() - started, 4)}
        return Annotation(line, analysis.mask, analysis.original_mask if analysis.kind == "sdg" else None)


def facts(analysis: Analysis, policy: Policy) -> dict[str, Any]:
    """What a line says of an analysis, as JSON values; null where the model did not need to know."""
    matrix = analysis.homography
    return {
        "kind": analysis.kind,
        "score": round(analysis.score, 6),
        "qes": round(analysis.qes, 6),
        "kept": analysis.kind != "unrelated" and analysis.qes >= policy.least_qes,
        "area": round(float(flagged(analysis.mask, policy.mask_threshold).mean()), 6),
        "inliers": analysis.inliers,
        "overlap": None if analysis.overlap is None else round(analysis.overlap, 6),
        "confidence": None if analysis.confidence is None else round(analysis.confidence, 6),
        "homography": None if matrix is None else [float(f"{value:.{DIGITS}g}") for value in matrix.ravel()],
        "model": model_name(analysis),
    }


def answers(setup: Setup, rows: Iterable[Row], workers: int) -> Generator[tuple[Row, Answer], None, None]:
    """Each row with its answer: in order with one worker, which is this process, else as they come.

    Rows are taken as they are needed. Raises Broken where the models cannot be loaded, Unavailable where a worker dies.
    """
    if workers > 1:
        yield from _pooled(setup, rows, workers)
        return
    annotator: Annotator | None = None
    for row in rows:
        annotator = annotator or Annotator(setup)
        yield row, annotator(row)


def worker_count(asked: int) -> int:
    """The number of processes that `--workers` asks for: 0 is one for each core that we may use."""
    return asked or len(os.sched_getaffinity(0))


# -- several processes ----------------------------------------------------------------------------------------------


def _pooled(setup: Setup, rows: Iterable[Row], workers: int) -> Iterator[tuple[Row, Answer]]:
    todo = iter(rows)
    waiting: dict[Future[Answer], Row] = {}
    with _pool(setup, workers) as pool:
        try:
            while True:
                for row in islice(todo, AHEAD * workers - len(waiting)):
                    waiting[pool.submit(_annotated, setup, row)] = row
                if not waiting:
                    return
                wait(waiting, return_when=FIRST_COMPLETED)
                for future in [each for each in waiting if each.done()]:
                    answer = future.result()
                    yield waiting.pop(future), answer
        except BrokenProcessPool as error:
            wait(waiting)
            lost = []
            for future, row in waiting.items():
                if future.exception() is None:
                    yield row, future.result()
                else:
                    lost.append(row["forged"])
            raise _died(lost[:workers]) from error


@contextmanager
def _pool(setup: Setup, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that annotate; on the way out each finishes the pair that it has, and no other."""
    with _started_with({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": str(setup.threads or 1)}):
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start, (setup,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _started_with(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes start with meanwhile: libraries read them before we can tell them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _start(setup: Setup) -> None:
    """A worker's start: leaves Ctrl-C to the process that asked, ends with it, and loads the models."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(setup.threads or 1)
    with suppress(PentimentoError):  # the first pair meets it again, and tells who asked
        _annotator(setup)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@cache
def _annotator(setup: Setup) -> Annotator:
    """This worker's annotator, with as many threads as one of several may have."""
    return Annotator(replace(setup, threads=setup.threads or 1))


def _annotated(setup: Setup, row: Row) -> Answer:
    """Runs in a worker. Raises Broken where the models cannot be loaded."""
    return _annotator(setup)(row)


def _died(lost: list[str]) -> Unavailable:
    at = f" while it looked at one of: {', '.join(lost)}" if lost else ""
    return Unavailable(
        "worker",
        f"a worker process died{at}. Memory may have run short: fewer --workers need less. What was done is kept, and "
        "the same command with --resume goes on where it stopped",
    )
