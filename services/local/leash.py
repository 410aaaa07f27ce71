"""A launcher that outlives nobody: no child is left behind, whoever dies, and however.

In: `leash.py --parent PID [--user UID:GID] -- COMMAND...`, run by `component.py` as a script of its own with
`python -I -S`. Out: the command, and its exit status as ours (128 + n when signal n ended it).

It kills the command and everything that the command ever started when the parent ends (also by `kill -9`), when
the command itself ends (its helpers may live on), and on SIGUSR1. Other signals are passed to the command. Three
facts of Linux carry this: a pidfd becomes readable when its process ends, orphans go to the nearest subreaper
(us), and the parent-death signal ends the command when we are killed. Only a few standard modules are imported,
because one such process lives beside every child.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2)
KILL_ALL = signal.SIGUSR1
NOT_STARTED = 127  # as a shell says it when a command cannot be run
PARENT_GONE = 128 + signal.SIGKILL


def become_subreaper() -> None:
    """From now on orphaned descendants of this process become its children."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants(root: int) -> list[int]:
    """Process ids of all living descendants of `root`, without itself, parents before their children."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is one of the modules that we do without
        if name.isdigit():
            parent, state = _stat(int(name))
            if parent and state != "Z":
                children.setdefault(parent, []).append(int(name))
    found = []
    waiting = [root]
    while waiting:
        nearest = children.get(waiting.pop(0), [])
        found.extend(nearest)
        waiting.extend(nearest)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run a command on the leash until it, or our parent, ends. Returns the exit status."""
    split = list(arguments).index("--")
    options = dict(zip(arguments[:split:2], arguments[1:split:2], strict=True))
    return run(list(arguments[split + 1 :]), parent=int(options["--parent"]), user=options.get("--user"))


def run(command: list[str], *, parent: int, user: str | None = None) -> int:
    """Start `command` as `user` ("uid:gid"), watch it and process `parent`, and leave nothing behind."""
    become_subreaper()
    wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
    for handled in (*PASSED_ON, KILL_ALL, signal.SIGCHLD):
        signal.signal(handled, lambda *_: None)
    try:
        parent_alive = os.pidfd_open(parent)
    except ProcessLookupError:
        return PARENT_GONE
    if os.getppid() != parent:  # it ended before the pidfd was open: the id may be another process's by now
        return PARENT_GONE
    child = _start(command, user)
    poll = select.poll()
    poll.register(parent_alive, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if parent_alive in ready:
            return _kill_all(PARENT_GONE)
        for number in os.read(wake, 4096):
            if number == KILL_ALL:
                return _kill_all(PARENT_GONE)
            if number == signal.SIGCHLD:
                status = _reap(child)
                if status is not None:
                    return _kill_all(status)
            else:
                os.kill(child, number)


def _start(command: list[str], user: str | None) -> int:
    leash = os.getpid()
    program = _found(command[0])  # now: the other user may be unable to read the modules that a search imports
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        for handled in (*PASSED_ON, KILL_ALL, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(handled, signal.SIG_DFL)
        if user is not None:
            uid, _, gid = user.partition(":")
            os.setgroups([])
            os.setgid(int(gid))
            os.setuid(int(uid))
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which clears it
        if os.getppid() == leash:
            os.execv(program, command)
    except OSError as error:
        os.write(2, f"leash: cannot run {command[0]}: {error}\n".encode())
    os._exit(NOT_STARTED)


def _found(name: str) -> str:
    """The path of a program, as a shell finds it; the name itself where it cannot be found."""
    if "/" in name:
        return name
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    return name


def _reap(child: int) -> int | None:
    """Collect what has ended; the exit status of `child` if it is among them."""
    status = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = _exit_status(ended[1])
    except ChildProcessError:
        pass
    return status


def _kill_all(status: int) -> int:
    """Kill until nobody is left: what escapes one round has become our child by the next. Returns `status`."""
    while True:
        for process in descendants(os.getpid()):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return status


def _exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


def _stat(process: int) -> tuple[int, str]:
    """Parent and state letter of a process; (0, "") when it is gone."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return 0, ""
    return int(fields[1]), fields[0].decode()


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
