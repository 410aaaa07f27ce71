"""The leash: nobody is left behind, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.component import leashed
from services.local.leash import NOT_STARTED, PARENT_GONE, descendants
from tests.local.processes import alive, eventually

FAMILY = "setsid sleep 1001 & (setsid sleep 1002 &) ; echo ready; exec sleep 1003"
"""A child in a session of its own, an orphan in another, and the command itself."""

PARENT = """
import subprocess, sys
from services.local.component import leashed
child = subprocess.Popen(leashed(["sh", "-c", sys.argv[1]]), start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A leash held by the test, and the processes on it."""
    held = subprocess.Popen(leashed(["sh", "-c", FAMILY]), stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "ready\n"
    eventually(lambda: len(descendants(held.pid)) == 3)
    members = descendants(held.pid)
    yield held, members
    held.stdout.close()
    held.kill()
    held.wait()
    assert not any(alive(member) for member in members)


def test_the_exit_status_of_the_command_is_the_one_of_the_leash() -> None:
    assert subprocess.run(leashed(["sh", "-c", "exit 7"]), check=False).returncode == 7


def test_a_command_that_a_signal_ended_shows_it_as_a_shell_would() -> None:
    assert subprocess.run(leashed(["sh", "-c", "kill -9 $$"]), check=False).returncode == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_is_reported_with_its_name() -> None:
    ran = subprocess.run(leashed(["/no/such/command"]), check=False, capture_output=True, text=True)
    assert ran.returncode == NOT_STARTED
    assert "cannot run /no/such/command" in ran.stderr


def test_when_the_parent_is_killed_the_command_and_all_that_it_started_die() -> None:
    root = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, FAMILY], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    with parent.stdout as lines:
        leash_pid = int(lines.readline())
        eventually(lambda: len(descendants(leash_pid)) == 3)
        everybody = [leash_pid, *descendants(leash_pid)]
        parent.kill()
        parent.wait()
    eventually(lambda: not any(alive(process) for process in everybody))


def test_when_the_command_ends_its_helpers_in_other_sessions_die_too(
    family: tuple[subprocess.Popen[str], list[int]],
) -> None:
    held, members = family
    os.kill(members[0], signal.SIGTERM)
    assert held.wait(10) == 128 + signal.SIGTERM
    assert not any(alive(member) for member in members)


def test_when_the_leash_itself_is_killed_the_command_dies(family: tuple[subprocess.Popen[str], list[int]]) -> None:
    held, members = family
    held.kill()
    held.wait()
    eventually(lambda: not alive(members[0]))
    for orphan in members[1:]:  # these are for `Component.clear`, which knows them by their mark
        os.kill(orphan, signal.SIGKILL)
    eventually(lambda: not any(alive(member) for member in members))


def test_a_polite_signal_is_passed_to_the_command_which_may_end_as_it_likes() -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    held = subprocess.Popen(leashed(["sh", "-c", script]), stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    with held.stdout as lines:
        lines.readline()
        held.terminate()
        assert held.wait(10) == 5


def test_a_command_whose_parent_is_gone_already_is_never_started(tmp_path: Path) -> None:
    short_lived = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True
    )
    command = leashed(["touch", str(tmp_path / "started")])
    command[command.index("--parent") + 1] = short_lived.stdout.decode().strip()
    assert subprocess.run(command, check=False).returncode == PARENT_GONE
    assert not (tmp_path / "started").exists()
