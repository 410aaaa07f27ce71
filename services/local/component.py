"""A component of the embedded stack: one child process on a leash, with a log, a readiness check and a clean end.

In: what a subclass says of its command (`launch`) and of its health (`probe`). Out: a running process that answers, or
`Unavailable` with the end of its log. All calls block; call them through `asyncio.to_thread` beside a running event
loop. A component can be started again after `stop`, `kill` or a crash, on the same ports and with the same data.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from services.core.errors import Broken, Unavailable
from services.local import leash

POLL_S = 0.05
LOG_BYTES = 5_000_000
LOGS_KEPT = 3
QUOTED_LINES = 15
KILL_TIMEOUT_S = 10.0
MARK = "PENTIMENTO_COMPONENT"


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a process. `env` is added to ours; `user` is "uid:gid" to run as; `stop_signal` asks it to end."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM


class Component(ABC):
    """One process of the stack. `ready_timeout_s` and `stop_timeout_s` bound the waits of `start` and `stop`."""

    ready_timeout_s = 60.0
    stop_timeout_s = 20.0

    def __init__(self, name: str, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._stop_signal = signal.SIGTERM
        self._mark = f"{name}@{log_file.absolute()}"

    @abstractmethod
    def launch(self) -> Launch:
        """Prepare folders and files, and say how to start. Called before each start."""

    @abstractmethod
    def probe(self) -> None:
        """Return when the component serves; raise Unavailable with the reason when it does not (yet)."""

    def settle(self) -> None:
        """What is to be done once it serves, before `wait_ready` returns: nothing, unless a subclass says so."""
        return

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, give_up: threading.Event | None = None) -> None:
        """Start and wait until it serves. Raises Unavailable, with the end of the log, and leaves nothing running."""
        self.spawn()
        ready = False
        try:
            self.wait_ready(give_up=give_up)
            ready = True
        finally:
            if not ready:
                self.kill()

    def spawn(self) -> None:
        """Start without waiting. Raises Broken when it runs already."""
        if self.running:
            raise Broken(f"{self.name} runs already as process {self.pid}")
        launch = self.launch()
        self._stop_signal = launch.stop_signal
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        rotate(self.log_file)
        sweep(self._mark)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                leashed(launch.command, launch.user),
                env={**os.environ, **launch.env, MARK: self._mark},
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal is for the supervisor alone
            )

    def wait_ready(self, timeout_s: float | None = None, give_up: threading.Event | None = None) -> None:
        """Wait until `probe` passes. Raises Unavailable when the process ends, time runs out, or `give_up` is set."""
        give_up = give_up or threading.Event()
        timeout_s = self.ready_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            if not self.running:
                self.clear()
                raise Unavailable(self.name, f"{self.name} ended with status {self.exit_status}:\n{self.log_tail()}")
            try:
                self.probe()
            except Unavailable as error:
                if time.monotonic() > deadline:
                    text = f"{self.name} does not answer after {timeout_s:.0f} s ({error}); see {self.log_file}"
                    raise Unavailable(self.name, f"{text}:\n{self.log_tail()}") from error
                if give_up.wait(POLL_S):
                    raise Unavailable(self.name, f"{self.name} was told to stop while it started") from None
            else:
                self.settle()
                return

    def stop(self) -> bool:
        """Ask it to end, wait, then force it. True when force was not needed. Does nothing when it does not run."""
        if self._process is None:
            return True
        if self.running:
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        self.clear()
        return True

    def kill(self) -> None:
        """End it and everything that it started at once, as a power cut would (SIGKILL)."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(leash.KILL_ALL)
        self._process.wait(KILL_TIMEOUT_S)
        self.clear()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end, at most so long; whether it ended."""
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
        self.clear()
        return True

    def clear(self) -> None:
        """After its end: end what may still live of it, in case the leash itself was killed."""
        if not self.running:
            sweep(self._mark)

    # -- what it is doing ------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def healthy(self) -> bool:
        """Whether it runs and serves."""
        try:
            self.probe()
        except Unavailable:
            return False
        return self.running

    @property
    def exit_status(self) -> int | None:
        """How the last process ended (128 + n: by signal n); None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int | None:
        """The component's own process (not the leash that holds it); None when it does not run."""
        if self._process is None or not self.running:
            return None
        return next(iter(leash.descendants(self._process.pid)), None)

    @property
    def leash_pid(self) -> int | None:
        """The process that holds the component; None when it does not run."""
        return self._process.pid if self._process is not None and self.running else None

    def log_tail(self, lines: int = QUOTED_LINES) -> str:
        """The last lines of the log."""
        if not self.log_file.exists():
            return "(no log)"
        with self.log_file.open("rb") as log:
            log.seek(max(0, self.log_file.stat().st_size - 20_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def leashed(command: Sequence[str], user: str | None = None) -> list[str]:
    """The command line that runs `command` on a leash held by this process. See `leash.py`."""
    options = ["--parent", str(os.getpid()), *(["--user", user] if user else [])]
    return [sys.executable, "-I", "-S", leash.__file__, *options, "--", *command]


def run_leashed(
    name: str,
    command: Sequence[str],
    timeout_s: float,
    *,
    user: str | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
) -> None:
    """Run a preparing command to its end. Raises Unavailable for `name`, with the end of its output, when it fails."""
    given = stdin or subprocess.DEVNULL
    try:
        subprocess.run(leashed(command, user), check=True, capture_output=True, timeout=timeout_s, cwd=cwd, stdin=given)
    except subprocess.CalledProcessError as error:
        lines = (error.stdout + error.stderr).decode(errors="replace").splitlines()[-QUOTED_LINES:]
        text = f"{' '.join(command[:3])} failed with status {error.returncode} while {name} was prepared"
        raise Unavailable(name, "\n".join((text, *lines))) from error
    except subprocess.TimeoutExpired as error:
        text = f"{' '.join(command[:3])} took longer than {timeout_s:.0f} s while {name} was prepared"
        raise Unavailable(name, text) from error


def sweep(mark: str) -> None:
    """Kill every process that carries this mark in its environment: nobody holds it any more."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue  # it has ended, or is another user's


def rotate(log_file: Path, limit_bytes: int = LOG_BYTES, kept: int = LOGS_KEPT) -> None:
    """Move a log that has grown beyond the limit to `.1`, older ones one number up, and drop the oldest."""
    if not log_file.exists() or log_file.stat().st_size <= limit_bytes:
        return
    for number in range(kept - 1, 0, -1):
        older = log_file.with_name(f"{log_file.name}.{number}")
        if older.exists():
            older.replace(log_file.with_name(f"{log_file.name}.{number + 1}"))
    log_file.replace(log_file.with_name(f"{log_file.name}.1"))
