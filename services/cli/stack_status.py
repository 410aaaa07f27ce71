"""How the embedded stack's state is shown: a table, a live table while it changes, or JSON.

In: `StackState` from the data folder. Out: text on the terminal. Nothing is started or stopped here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.cli.console import duration, note, notices
from services.local.state import ComponentState, Phase, StackState, last_state, memory_bytes

POLL_S = 0.1
COLOURS = {Phase.RUNNING: "green", Phase.EXTERNAL: "cyan", Phase.FAILED: "bold red", Phase.RESTARTING: "yellow"}


def follow(folder: Path, done: Callable[[], bool], timeout_s: float | None, supervisor: int | None = None) -> bool:
    """Show the state of a supervisor until `done`; False when that takes longer than `timeout_s`."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    console = notices()
    shown: dict[str, str] = {}
    with Live(console=console, transient=True, auto_refresh=False) as live:
        while not done():
            state = last_state(folder)
            if state is not None and supervisor in (None, state.supervisor_pid):
                if console.is_terminal:
                    live.update(_table(state, memory=False), refresh=True)
                else:
                    say_changes(state, shown)
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
    return True


def say_changes(state: StackState, shown: dict[str, str]) -> None:
    """One line for each component whose state is not the one in `shown`."""
    for component in state.components:
        line = f"{component.phase.value} {component.detail.splitlines()[0] if component.detail else ''}".strip()
        if shown.get(component.name) != line:
            shown[component.name] = line
            note(f"{component.name}: {line}")


def write_status(state: StackState) -> None:
    """The table of everything that runs, with its memory (PSS: shared pages counted once), to stdout."""
    Console().print(_table(state, memory=True))


def _table(state: StackState, *, memory: bool) -> Table:
    table = Table(title=f"Pentimento: {state.phase.value}", title_justify="left", header_style="bold", pad_edge=False)
    for column in ("component", "state", "pid", "address", "uptime", "memory", "restarts"):
        right = column in ("pid", "uptime", "memory", "restarts")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    total = 0
    for component in state.components:
        used = _memory(component) if memory else 0
        total += used
        colour = COLOURS.get(component.phase, "default")
        table.add_row(
            component.name,
            f"[{colour}]{component.phase.value}[/]",
            str(component.pid or ""),
            component.address or "",
            _uptime(component),
            f"{used / 1e6:.0f} MB" if used else "",
            str(component.restarts or ""),
        )
    if memory:
        supervisor = memory_bytes(state.supervisor_pid, tree=False)
        table.add_section()
        table.add_row("all", "", str(state.supervisor_pid), "", "", f"{(total + supervisor) / 1e6:.0f} MB", "")
    return table


def as_json(component: ComponentState) -> dict[str, object]:
    """One component as a JSON object."""
    return {
        **component.model_dump(mode="json", exclude={"leash_pid"}),
        "uptime_s": _uptime_s(component),
        "memory_bytes": _memory(component),
    }


def _memory(component: ComponentState) -> int:
    return memory_bytes(component.leash_pid) if component.leash_pid else 0


def _uptime_s(component: ComponentState) -> int | None:
    if component.phase is not Phase.RUNNING or component.started_at is None:
        return None
    return int((datetime.now(UTC) - component.started_at).total_seconds())


def _uptime(component: ComponentState) -> str:
    seconds = _uptime_s(component)
    return "" if seconds is None else duration(seconds)
