"""Our own processes as components: workers, the web process, and whatever else a test wants beside them.

In: a command and, where it has one, the address that says when it is ready. Out: a component.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services.core.errors import Unavailable
from services.local.component import Component, Launch

PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. Without `ready_url` it counts as ready as soon as it lives."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)


class OwnProcess(Component):
    """A `Program` as a component."""

    ready_timeout_s = 120.0
    stop_timeout_s = 30.0  # a worker may finish its batch

    def __init__(self, program: Program, log_file: Path) -> None:
        super().__init__(program.name, log_file)
        self.program = program

    def launch(self) -> Launch:
        """The command as given."""
        return Launch(self.program.command, env={"PYTHONUNBUFFERED": "1", **self.program.env})

    def probe(self) -> None:
        """Its readiness address answers 200."""
        if self.program.ready_url is None:
            return
        try:
            answer = httpx.get(self.program.ready_url, timeout=PROBE_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Unavailable(self.name, f"{self.program.ready_url} does not answer: {error!r}") from error
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(self.name, f"{self.program.ready_url} says {answer.status_code}: {answer.text[:300]}")


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line of one of our modules, with this very interpreter."""
    return (sys.executable, "-m", module, *arguments)
