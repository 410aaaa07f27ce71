"""The command line as a user has it, and one whole stack for the commands that need one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.local.options import StackOptions
from services.local.stack import Stack, running_stack

SAMPLES = Path(__file__).parents[2] / "samples"


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class Pentimento:
    """Runs `pentimento` in this process, on one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *arguments: str | Path) -> Outcome:
        environment = {"PENTIMENTO_DATA_DIR": str(self.data), "COLUMNS": "200"}
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Outcome(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def pentimento(tmp_path: Path) -> Pentimento:
    """The command line without a stack."""
    return Pentimento(tmp_path / "no-data")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, PostgreSQL, TorchServe with the embedder, the workers and the web process."""
    with running_stack(tmp_path_factory.mktemp("cli") / "data", StackOptions(embedder=True)) as running:
        yield running


@pytest.fixture
def on_stack(stack: Stack) -> Pentimento:
    """The command line on the running stack."""
    return Pentimento(stack.data_dir)
