"""The most memory that the stack took while something ran.

In: the stack's components. Out: bytes, shared pages counted once (PSS), by component and in all.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from services.local.stack import Stack
from services.local.state import memory_bytes


class Looking:
    """Calls `look` every `every_s` seconds, and once more when the block ends."""

    every_s = 2.0

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """What is done each time."""
        raise NotImplementedError

    def _watch(self) -> None:
        while not self._over.wait(self.every_s):
            self.look()


class PeakMemory(Looking):
    """Looks until the block ends. `peak` is the largest sum, `parts` what it was made of."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._stack = stack
        self.peak = 0
        self.parts: dict[str, int] = {}

    def look(self) -> None:
        leashes = {name: kept.component.leash_pid for name, kept in self._stack.components.items()}
        parts = {name: memory_bytes(pid) for name, pid in leashes.items() if pid is not None}
        total = sum(parts.values())
        if total > self.peak:
            self.peak, self.parts = total, parts
