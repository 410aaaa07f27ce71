"""Memory of an embedded PostgreSQL: its largest process, and all of them together."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local import leash
from services.local.postgres import Postgres
from services.local.state import memory_bytes

EVERY_S = 0.5


class Peak:
    """Looks at every process of a server until the block ends. `largest` is the most that one of them ever held in
    memory (VmHWM), `together` the most that all held at once, shared pages counted once (PSS); both in bytes."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self.largest = 0
        self.together = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self._look()

    def _look(self) -> None:
        root = self._postgres.leash_pid
        if root is None:
            return
        self.largest = max(self.largest, *(high_water_bytes(process) for process in leash.descendants(root)), 0)
        self.together = max(self.together, memory_bytes(root))


def high_water_bytes(process: int) -> int:
    """The most that a process ever held in memory, in bytes; 0 once it has ended. See proc_pid_status(5)."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
