"""What all TorchServe entries share: form fields in, a body or an error per item out.

In: TorchServe's list of requests and its context. Out: a list of bodies of the same length, with each item's status and
content type set on the context. The models are `analysis.Model` and `embedding.EmbedderModel`, which offline commands
use without any server.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from model_archive.handlers.results import ItemError, PairRequest, SingleRequest
from services.core.errors import Rejected

THREADS = "PENTIMENTO_TORCH_THREADS"
"""Environment: threads of one worker process. Without it the cores are shared out among WORKERS."""

WORKERS = "PENTIMENTO_TORCH_WORKERS"
"""Environment: model workers on this machine, all models together. Two by default: one for each model that judges; the
embedder's work is too short to count."""

log = logging.getLogger(__name__)
R = TypeVar("R", bound=SingleRequest | PairRequest)
R_contra = TypeVar("R_contra", bound=SingleRequest | PairRequest, contravariant=True)


DESCRIBE = "describe"
"""A request with this field alone asks which model and version answer here, and costs no inference."""


@dataclass(frozen=True, slots=True)
class Description:
    """Who answers."""

    model: str
    version: str


class Answer(Protocol):
    """What a model says to one item."""

    @property
    def media_type(self) -> str:
        """The content type of the body."""

    def body(self) -> bytes:
        """What the client gets."""


class Served(Protocol[R_contra]):
    """A model: its name, its version, and one answer per item, in order; it never raises for an item's sake."""

    @property
    def name(self) -> str:
        """As in `package.ARCHIVES`."""

    @property
    def version(self) -> str:
        """Changes with the weights."""

    def analyse(self, items: Sequence[R_contra]) -> Sequence[Answer | ItemError]:
        """One answer per item."""


class Context(Protocol):
    """The part of TorchServe's context that we use (`ts.context.Context` fits it)."""

    @property
    def system_properties(self) -> Mapping[str, Any]:
        """Holds `model_dir`, where the archive was unpacked."""

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """HTTP status of one item of the batch."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Content type of one item of the batch."""


class Entry(Generic[R]):
    """A TorchServe handler: `initialize` once, then `handle` per batch."""

    def __init__(self, load: Callable[[Path], Served[R]], parse: Callable[[Mapping[str, Any]], R]) -> None:
        self._load: Callable[[Path], Served[R]] = load
        self._parse: Callable[[Mapping[str, Any]], R] = parse
        self._model: Served[R] | None = None

    def initialize(self, context: Context) -> None:
        """Loads the archive's weights. Raises Broken where they are missing or damaged: the worker must not start."""
        torch.set_num_threads(thread_count(os.environ, len(os.sched_getaffinity(0))))
        torch.use_deterministic_algorithms(True)
        self._model = self._load(Path(context.system_properties["model_dir"]))

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One body per item, in order; a bad item has a status of its own and harms no other."""
        if self._model is None:
            raise RuntimeError("handle was called before initialize")
        described = Description(self._model.name, self._model.version)
        requests = [described if set(fields) == {DESCRIBE} else self._parsed(fields) for fields in data]
        asked = [request for request in requests if not isinstance(request, ItemError | Description)]
        answers = iter(self._model.analyse(asked))
        outcomes = [request if isinstance(request, ItemError | Description) else next(answers) for request in requests]
        return [_sent(outcome, index, context) for index, outcome in enumerate(outcomes)]

    def _parsed(self, fields: Mapping[str, Any]) -> R | ItemError:
        try:
            return self._parse(fields)
        except Rejected as error:
            return ItemError("rejected", error.message, error.code)


def thread_count(environment: Mapping[str, str], cores: int) -> int:
    """Threads of one worker: cores / workers, at least 1, unless set. More cost up to 100 times the speed."""
    if THREADS in environment:
        return max(1, int(environment[THREADS]))
    return max(1, cores // max(1, int(environment.get(WORKERS, "2"))))


def _sent(outcome: Answer | ItemError | Description, index: int, context: Context) -> bytes:
    if isinstance(outcome, Description):
        context.set_response_content_type(index, "application/json")
        return json.dumps({"model": outcome.model, "version": outcome.version}).encode()
    if isinstance(outcome, ItemError):
        if outcome.kind == "broken":
            log.error("item %d of the batch broke: %s", index, outcome.message)
        context.set_response_status(code=outcome.status, phrase=outcome.kind, idx=index)
        context.set_response_content_type(index, "application/json")
        return outcome.body()
    context.set_response_content_type(index, outcome.media_type)
    return outcome.body()
