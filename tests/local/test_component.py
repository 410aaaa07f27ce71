"""A component's life, on small processes of our own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import Broken, Unavailable
from services.local.component import rotate
from services.local.leash import descendants
from services.local.program import OwnProcess, Program
from tests.local.processes import alive, eventually


def process(folder: Path, script: str, *, ready_url: str | None = None) -> OwnProcess:
    return OwnProcess(Program("toy", (sys.executable, "-c", script), ready_url=ready_url), folder / "toy.log")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[OwnProcess]:
    toy = process(tmp_path, "import subprocess; subprocess.run(['setsid', 'sleep', '1000'])")
    toy.start()
    eventually(lambda: toy.leash_pid is not None and len(descendants(toy.leash_pid)) == 2)
    yield toy
    toy.kill()


def test_a_process_that_ends_at_once_is_unavailable_and_its_last_words_are_quoted(tmp_path: Path) -> None:
    toy = process(tmp_path, "raise SystemExit('the disk is upside down')", ready_url="http://127.0.0.1:9/readyz")
    with pytest.raises(Unavailable, match="status 1:\nthe disk is upside down"):
        toy.start()
    assert toy.exit_status == 1


def test_a_process_that_never_answers_is_stopped_when_its_time_is_up(tmp_path: Path) -> None:
    toy = process(tmp_path, "import time; time.sleep(1000)", ready_url="http://127.0.0.1:9/readyz")
    toy.ready_timeout_s = 0.3
    with pytest.raises(Unavailable, match="does not answer after 0 s"):
        toy.start()
    assert not toy.running


def test_what_ignores_the_polite_signal_is_killed_and_that_is_said(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
    toy = process(tmp_path, deaf)
    toy.start()
    eventually(lambda: "deaf" in toy.log_tail())
    toy.stop_timeout_s = 0.3
    assert toy.stop() is False
    assert not toy.running


def test_stopping_twice_or_before_the_start_does_no_harm(tmp_path: Path) -> None:
    toy = process(tmp_path, "import time; time.sleep(1000)")
    assert toy.stop()
    toy.start()
    assert toy.stop()
    assert toy.stop()


def test_a_second_start_while_it_runs_is_our_own_mistake(sleeper: OwnProcess) -> None:
    with pytest.raises(Broken, match="runs already"):
        sleeper.start()


def test_it_can_be_started_again_after_a_crash(sleeper: OwnProcess) -> None:
    first = sleeper.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert sleeper.wait(10)
    assert sleeper.exit_status == 128 + signal.SIGKILL
    sleeper.start()
    eventually(lambda: sleeper.pid is not None)
    assert sleeper.pid != first


def test_when_the_leash_is_killed_what_it_held_is_found_by_its_mark(sleeper: OwnProcess) -> None:
    leash_pid = sleeper.leash_pid
    assert leash_pid is not None
    held = descendants(leash_pid)
    os.kill(leash_pid, signal.SIGKILL)
    assert sleeper.wait(10)
    eventually(lambda: not any(alive(member) for member in held))


def test_a_log_that_grew_too_large_moves_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    for number in range(6):
        log.write_text(f"{number}" * 100)
        rotate(log, limit_bytes=50, kept=3)
        assert not log.exists()
    assert [tmp_path.joinpath(f"toy.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["5", "4", "3"]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_small_log_is_continued(tmp_path: Path) -> None:
    log = tmp_path / "toy.log"
    log.write_text("short")
    rotate(log, limit_bytes=50)
    assert log.read_text() == "short"
