"""Memory of an embedded PostgreSQL: its largest process, and all of them together."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bench.memory import Looking
from services.local import leash
from services.local.postgres import Postgres
from services.local.state import memory_bytes


class Peak(Looking):
    """Looks at every process of a server until the block ends. `largest` is the most that one of them ever held in
    memory (VmHWM), `together` the most that all held at once, shared pages counted once (PSS); both in bytes."""

    every_s = 0.5

    def __init__(self, postgres: Postgres) -> None:
        super().__init__()
        self._postgres = postgres
        self.largest = 0
        self.together = 0

    def look(self) -> None:
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
