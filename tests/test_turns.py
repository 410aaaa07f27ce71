"""Tests are dealt out with those that share their server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.turns import TURNS, file_of, turn_of

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", [file for row in TURNS for file in row])
def test_a_file_that_has_a_turn_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


def test_files_that_share_a_server_are_dealt_out_together_and_others_alone() -> None:
    assert turn_of("tests/cli/test_scrape.py::test_a") == turn_of("tests/cli/test_on_stack.py::test_b[x::y]")
    assert turn_of("tests/core/test_policy.py::test_a") == "tests/core/test_policy.py"
    assert file_of("tests/core/test_policy.py::test_a") == "tests/core/test_policy.py"


def test_every_file_that_asks_for_the_whole_stack_has_its_turn() -> None:
    asking = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests" / "cli").glob("test_*.py")
        if "stack: Stack" in file.read_text()
    }
    assert asking
    assert {turn_of(file) for file in asking} == {TURNS[0][0]}


def test_two_processes_begin_with_the_first_rows_and_keep_each_row_whole(tmp_path: Path) -> None:
    """In a project with files of the same names, and one with more tests than any."""
    files = {file: 1 for row in TURNS[:2] for file in row} | {"tests/core/test_many.py": 9, "tests/core/test_few.py": 1}
    for file, count in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("\n".join(f"def test_{number}(): pass" for number in range(count)))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist", "loadfile", "--import-mode", "importlib",
         "-p", "tests.turns", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path), "tests"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = re.findall(r"^\[(gw\d)\] .*PASSED (\S+)::", ran.stdout, re.MULTILINE)
    assert len(told) == sum(files.values())
    began = {process: next(file for each, file in told if each == process) for process, _ in told}
    assert set(began.values()) == {TURNS[0][0], TURNS[1][0]}
    whole, scraped = TURNS[0]
    assert {process for process, file in told if file == whole} == {
        process for process, file in told if file == scraped
    }
