"""Keeps a set of components alive: starts them in order, restarts what crashes, stops them in reverse.

In: components with what each needs. Out: their states, at every change, through a callback. One thread keeps one
component; only the owner of the `Supervisor` starts and stops them all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from services.core.errors import PentimentoError, Unavailable
from services.local.component import Component
from services.local.state import ComponentState, Phase

WATCH_S = 0.2
JOIN_MARGIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a crashed component is started again, and after which pauses (they double)."""

    first_pause_s: float = 0.5
    longest_pause_s: float = 30.0
    crashes: int = 8  # in a row, before a component is given up: about a minute with the pauses
    start_attempts: int = 2  # of the very first start: a wrong setting will not go away
    steady_s: float = 60.0  # after so long without a crash the count begins anew


@dataclass(frozen=True, slots=True)
class Kept:
    """A component, the names of those that must have served before it starts, and where it can be reached."""

    component: Component
    needs: tuple[str, ...] = ()
    address: str | None = None
    ports: Mapping[str, int] = field(default_factory=dict)


class Keeper:
    """Keeps one component alive, in a thread of its own."""

    def __init__(
        self, kept: Kept, others: Mapping[str, Keeper], patience: Patience, changed: Callable[[], None]
    ) -> None:
        self.kept = kept
        self.served = threading.Event()  # at least once
        self.ended = threading.Event()  # for good
        self._others = others
        self._patience = patience
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"keep-{kept.component.name}", daemon=True)
        self._state = ComponentState(
            name=kept.component.name, phase=Phase.WAITING, address=kept.address, ports=dict(kept.ports)
        )

    @property
    def state(self) -> ComponentState:
        """A snapshot."""
        component = self.kept.component
        if self._state.phase is not Phase.RUNNING:
            return self._state
        return self._state.model_copy(update={"pid": component.pid, "leash_pid": component.leash_pid})

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Stop the component and do not start it again; returns at once."""
        self._stop.set()

    def join(self) -> None:
        """Wait for the component's end."""
        if self._thread.is_alive():
            self._thread.join(self.kept.component.stop_timeout_s + JOIN_MARGIN_S)

    def _keep(self) -> None:
        component = self.kept.component
        try:
            if self._needs_are_met():
                self._run()
        finally:
            if component.running:
                self._note(Phase.STOPPING)
            in_peace = component.stop()
            failed = self._state.phase is Phase.FAILED
            if not failed:
                self._note(Phase.STOPPED, detail="" if in_peace else "had to be killed")
            self.ended.set()

    def _needs_are_met(self) -> bool:
        while not self._stop.is_set():
            needed = [self._others[name] for name in self.kept.needs]
            if any(keeper.ended.is_set() for keeper in needed):
                self._note(Phase.STOPPED, detail="what it needs did not start")
                return False
            if all(keeper.served.is_set() for keeper in needed):
                return True
            self._stop.wait(WATCH_S)
        return False

    def _run(self) -> None:
        """Start and watch until told to stop, or until it has crashed too often."""
        component, patience, crashes = self.kept.component, self._patience, 0
        while not self._stop.is_set():
            self._note(Phase.RESTARTING if self.served.is_set() else Phase.STARTING)
            began = monotonic()
            reason = self._start_and_watch(component)
            if self._stop.is_set():
                return
            crashes = 1 if monotonic() - began > patience.steady_s else crashes + 1
            if crashes >= (patience.crashes if self.served.is_set() else patience.start_attempts):
                self._note(Phase.FAILED, detail=f"given up after {crashes} crashes: {reason}")
                return
            self._note(Phase.RESTARTING, detail=reason, restarts=self._state.restarts + 1)
            self._stop.wait(min(patience.longest_pause_s, patience.first_pause_s * 2 ** (crashes - 1)))

    def _start_and_watch(self, component: Component) -> str:
        """Returns when it has ended, or must: why it did."""
        try:
            component.start(give_up=self._stop)
        except PentimentoError as error:
            return str(error)
        self.served.set()
        self._note(Phase.RUNNING, started_at=datetime.now(UTC))
        while not self._stop.is_set():
            if component.wait(WATCH_S):
                return f"ended with status {component.exit_status}"
        return "told to stop"

    def _note(self, phase: Phase, **changes: object) -> None:
        detail = {"detail": ""} if phase in (Phase.RUNNING, Phase.STARTING) else {}
        self._state = self._state.model_copy(update={"phase": phase, **detail, **changes})
        self._changed()


class Supervisor:
    """Keepers for a set of components. `on_change` is called from their threads."""

    def __init__(self, kept: Sequence[Kept], on_change: Callable[[], None], patience: Patience | None = None) -> None:
        self._keepers: dict[str, Keeper] = {}
        for one in kept:
            self._keepers[one.component.name] = Keeper(one, self._keepers, patience or Patience(), on_change)

    @property
    def states(self) -> list[ComponentState]:
        """The components in the order in which they were given."""
        return [keeper.state for keeper in self._keepers.values()]

    def start(self, cancelled: threading.Event | None = None) -> None:
        """Start all; returns when each has served. Raises Unavailable when one is given up or `cancelled` is set."""
        for keeper in self._keepers.values():
            keeper.start()
        while not all(keeper.served.is_set() for keeper in self._keepers.values()):
            failed = [state for state in self.states if state.phase is Phase.FAILED]
            if failed:
                raise Unavailable(failed[0].name, f"{failed[0].name} does not start: {failed[0].detail}")
            if cancelled is not None and cancelled.is_set():
                raise Unavailable("stack", "told to stop while it started")
            threading.Event().wait(WATCH_S)

    def stop(self) -> None:
        """Stop all, those first that others do not need; returns when nothing runs any more."""
        left = dict(self._keepers)
        while left:
            needed = {name for keeper in left.values() for name in keeper.kept.needs}
            free = [keeper for name, keeper in left.items() if name not in needed]
            for keeper in free:
                keeper.ask_to_stop()
            for keeper in free:
                keeper.join()
                left.pop(keeper.kept.component.name)
