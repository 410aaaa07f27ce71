"""Keeping components alive, on small processes of our own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.core.errors import Unavailable
from services.local.program import OwnProcess, Program
from services.local.state import ComponentState, Phase
from services.local.supervisor import Kept, Patience, Supervisor
from tests.local.processes import eventually

QUICK = Patience(first_pause_s=0.05, longest_pause_s=0.1, crashes=3, start_attempts=2, steady_s=1000)
SLEEP = "import time; time.sleep(1000)"


def kept(folder: Path, name: str, script: str = SLEEP, *needs: str, ready_url: str | None = None) -> Kept:
    program = Program(name, (sys.executable, "-c", script), ready_url=ready_url)
    return Kept(OwnProcess(program, folder / f"{name}.log"), needs)


@contextmanager
def supervised(*components: Kept, on_change: Callable[[], None] = lambda: None) -> Iterator[Supervisor]:
    supervisor = Supervisor(components, on_change, QUICK)
    try:
        yield supervisor
    finally:
        supervisor.stop()
    assert not any(one.component.running for one in components)


def state(supervisor: Supervisor, name: str) -> ComponentState:
    return next(one for one in supervisor.states if one.name == name)


def kill(supervisor: Supervisor, name: str) -> None:
    eventually(lambda: state(supervisor, name).phase is Phase.RUNNING and state(supervisor, name).pid)
    process = state(supervisor, name).pid
    assert process is not None
    os.kill(process, signal.SIGKILL)


def test_a_component_that_crashes_is_started_again_and_that_is_counted(tmp_path: Path) -> None:
    with supervised(kept(tmp_path, "toy")) as supervisor:
        supervisor.start()
        first = state(supervisor, "toy").pid
        kill(supervisor, "toy")
        eventually(lambda: state(supervisor, "toy").restarts == 1 and state(supervisor, "toy").phase is Phase.RUNNING)
        assert state(supervisor, "toy").pid != first


def test_a_component_that_crashes_too_often_is_given_up_with_the_reason_and_the_others_live_on(tmp_path: Path) -> None:
    with supervised(kept(tmp_path, "toy"), kept(tmp_path, "other")) as supervisor:
        supervisor.start()
        for _ in range(QUICK.crashes):
            kill(supervisor, "toy")
            eventually(lambda: state(supervisor, "toy").phase is not Phase.RUNNING)
        eventually(lambda: state(supervisor, "toy").phase is Phase.FAILED)
        assert "given up after 3 crashes: ended with status 137" in state(supervisor, "toy").detail
        assert state(supervisor, "other").phase is Phase.RUNNING


def test_a_start_that_fails_is_tried_again_and_then_reported_with_the_log(tmp_path: Path) -> None:
    broken = kept(tmp_path, "toy", "raise SystemExit('no licence')", ready_url="http://127.0.0.1:9/readyz")
    with (
        supervised(broken, kept(tmp_path, "after", SLEEP, "toy")) as supervisor,
        pytest.raises(Unavailable, match=r"(?s)toy does not start: given up after 2 crashes.*no licence"),
    ):
        supervisor.start()
    assert state(supervisor, "after").phase is Phase.STOPPED
    assert state(supervisor, "after").started_at is None


def test_what_a_component_needs_serves_before_it_starts_and_stops_after_it(tmp_path: Path) -> None:
    order: list[tuple[str, Phase]] = []
    seen: dict[str, Phase] = {}

    def note() -> None:
        for one in supervisor.states:
            if seen.get(one.name) is not one.phase:
                seen[one.name] = one.phase
                order.append((one.name, one.phase))

    with supervised(kept(tmp_path, "web", SLEEP, "base"), kept(tmp_path, "base"), on_change=note) as supervisor:
        supervisor.start()
    assert order.index(("base", Phase.RUNNING)) < order.index(("web", Phase.STARTING))
    assert order.index(("web", Phase.STOPPED)) < order.index(("base", Phase.STOPPED))


def test_a_start_can_be_called_off_while_a_component_still_comes_up(tmp_path: Path) -> None:
    cancelled = threading.Event()
    slow = kept(tmp_path, "slow", SLEEP, ready_url="http://127.0.0.1:9/readyz")
    with supervised(slow) as supervisor:
        threading.Timer(0.2, cancelled.set).start()
        with pytest.raises(Unavailable, match="told to stop"):
            supervisor.start(cancelled)
