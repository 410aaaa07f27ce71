"""Ports on the loopback address: found once, kept in a file, and reused while they are free.

In: the names that need a port, and the file that remembers them. Out: a port per name. Ports are chosen below the range
from which Linux takes the local ports of outgoing connections, so that a stopped component finds its port free again.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from services.core.errors import Unavailable

LOOPBACK = "127.0.0.1"
FIRST, LAST = 20_000, 32_000  # the kernel's own range starts at 32768
TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT does not matter
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int, host: str = LOOPBACK) -> bool:
    """Whether something listens there. Cheaper, and quieter in logs, than asking with a client."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def free_port(taken: Collection[int] = ()) -> int:
    """A free port that is not in `taken`. Raises Unavailable where there seems to be none."""
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST)  # noqa: S311 - not a secret
        if port not in taken and is_free(port):
            return port
    raise Unavailable("ports", f"no free port on {LOOPBACK} between {FIRST} and {LAST} in {TRIES} tries")


def kept_ports(names: Iterable[str], file: Path, wanted: Mapping[str, int] | None = None) -> dict[str, int]:
    """A port for each name: as wanted, else as kept in `file` if still free, else a new one. Updates `file`.

    Raises Unavailable when a wanted port is in use.
    """
    kept: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports = {name: port for name, port in (wanted or {}).items() if port}
    for name, port in ports.items():
        if not is_free(port):
            raise Unavailable("ports", f"port {port}, asked for {name}, is in use: stop its user or ask for another")
    for name in names:
        if name not in ports:
            port = kept.get(name, 0)
            reuse = port not in ports.values() and port and is_free(port)
            ports[name] = port if reuse else free_port({*ports.values(), *kept.values()})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**kept, **ports}, indent=1) + "\n")
    return ports
