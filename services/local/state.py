"""What runs in a data folder: the supervisor's lock, and the state that it writes for everybody else.

In: a data folder. Out: `StackState`, read from `run/stack.json`. The lock is the truth about whether a supervisor
lives: a killed one leaves its file behind, but never its lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from services.core.errors import Unavailable
from services.local import leash
from services.local.files import write_whole


class Phase(StrEnum):
    """Where a component, or the whole stack, is in its life."""

    WAITING = "waiting"  # for what it needs
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    EXTERNAL = "external"  # an address was given: not ours to start


class ComponentState(BaseModel):
    """One line of `pentimento status`."""

    name: str
    phase: Phase
    address: str | None = None
    pid: int | None = None
    leash_pid: int | None = None
    ports: dict[str, int] = {}
    started_at: AwareDatetime | None = None
    restarts: int = 0
    detail: str = ""


class StackState(BaseModel):
    """Everything that runs. `phase` is `running` once every component has served."""

    phase: Phase
    supervisor_pid: int
    started_at: AwareDatetime
    components: list[ComponentState]

    @property
    def failures(self) -> list[ComponentState]:
        """The components that were given up."""
        return [component for component in self.components if component.phase is Phase.FAILED]


def write_state(data_dir: Path, state: StackState) -> None:
    """Replace the state file."""
    write_whole(_state_file(data_dir), state.model_dump_json(indent=1) + "\n")


def read_state(data_dir: Path) -> StackState | None:
    """The state of the stack that runs in a folder; None when none does."""
    return last_state(data_dir) if supervisor_pid(data_dir) is not None else None


def last_state(data_dir: Path) -> StackState | None:
    """The last state that was written in a folder, also by a supervisor that is gone; None when there never was one."""
    try:
        return StackState.model_validate_json(_state_file(data_dir).read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def held_lock(data_dir: Path) -> Iterator[None]:
    """Hold the folder for this process. Raises Unavailable, and says who holds it, when another one does."""
    file = _lock_file(data_dir)
    make_private(data_dir)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read_text().strip() or "another process"
            raise Unavailable("stack", f"process {holder} runs the stack in {data_dir} already") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def make_private(data_dir: Path) -> None:
    """Make the data folder, for its owner alone: uploads lie in it. One that exists stays as it is."""
    if not data_dir.exists():
        data_dir.mkdir(mode=0o700, parents=True)


def supervisor_pid(data_dir: Path) -> int | None:
    """The process that holds the folder; None when nobody does."""
    try:
        with _lock_file(data_dir).open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def memory_bytes(root: int, *, tree: bool = True) -> int:
    """Memory of a process, by default with all that it started, shared pages counted once (PSS), in bytes."""
    return sum(_proportional_bytes(process) for process in (root, *(leash.descendants(root) if tree else ())))


def _proportional_bytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _state_file(data_dir: Path) -> Path:
    return data_dir / "run" / "stack.json"


def _lock_file(data_dir: Path) -> Path:
    return data_dir / "run" / "lock"
