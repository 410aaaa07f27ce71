"""What the tests of the embedded stack need to know about processes: who lives, and waiting for an effect."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

WAIT_S = 30.0
POLL_S = 0.02


def eventually(check: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Return as soon as `check` holds; fail when it does not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {check}"
        time.sleep(POLL_S)


def alive(process: int) -> bool:
    """Whether a process lives; one that ended and waits for its parent does not."""
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def processes_of(folder: Path) -> list[str]:
    """Command lines of every living process that names `folder` in its command line or environment."""
    found = []
    needle = str(folder).encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            continue
        marked = [part for part in environment.split(b"\0") if part.startswith(b"PENTIMENTO_COMPONENT=")]
        if needle in command or any(needle in part for part in marked):
            found.append(command.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def listening_addresses(process: int) -> set[str]:
    """Hexadecimal local addresses on which a process accepts TCP connections, from /proc."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK_ADDRESSES = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # the same, as IPv6 writes it
    "00000000000000000000000001000000",  # ::1
}
