"""The whole embedded stack: through the command line as a user has it, and in process as tests and the demo have it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from services.cli.stack import app
from services.core.errors import Unavailable
from services.core.topology import TOPICS
from services.local.kafka import Kafka
from services.local.options import StackOptions
from services.local.postgres import Postgres
from services.local.program import Program
from services.local.stack import running_stack
from services.local.state import Phase, last_state, read_state
from services.local.topics import existing_topics
from services.settings import load_settings
from tests.local.processes import eventually, processes_of
from tests.local.toy_archives import toy_store

ROOT = Path(__file__).parents[2]
SLEEP = (sys.executable, "-c", "import time; time.sleep(1000)")
NO_WORKERS = {"intake": 0, "judge": 0, "learn": 0}


@dataclass(frozen=True)
class Shell:
    """`pentimento` on one data folder, with nothing of ours in the environment."""

    folder: Path
    store: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PENTIMENTO_")}
        kept = {name: value for name, value in os.environ.items() if name == "PENTIMENTO_CACHE_DIR"}
        return subprocess.run(
            [sys.executable, "-c", "from services.cli import main; main()", *arguments],
            env={**clean, **kept, "PENTIMENTO_DATA_DIR": str(self.folder), "COLUMNS": "200", **environment},
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        """Everything but workers and web, which need real models."""
        none = [part for group in NO_WORKERS for part in ("--workers", f"{group}=0")]
        started = self.run("up", "--no-web", *none, "--model-store", str(self.store))
        assert started.returncode == 0, started.stderr
        return started

    def status(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run("status", "--json").stdout.splitlines()]

    def findings(self) -> dict[str, str]:
        lines = self.run("doctor", "--json").stdout.splitlines()
        return {finding["check"]: finding["outcome"] for finding in map(json.loads, lines)}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("stack")
    own = Shell(folder / "data", toy_store(folder / "store", "toy"))
    own.up()
    yield own
    own.run("down")
    assert processes_of(own.folder) == []


def test_every_component_runs_and_is_shown_with_its_process_port_and_memory(shell: Shell) -> None:
    components = shell.status()
    assert [one["name"] for one in components] == ["kafka", "postgres", "torchserve"]
    for one in components:
        assert one["phase"] == "running"
        assert Path(f"/proc/{one['pid']}").exists()
        assert one["ports"]
        assert one["memory_bytes"]
    table = shell.run("status").stdout
    assert all(word in table for word in ("kafka", "torchserve", "running", "MB"))


def test_a_second_up_says_what_runs_and_starts_nothing(shell: Shell) -> None:
    before = [(one["name"], one["pid"]) for one in shell.status()]
    second = shell.run("up")
    assert second.returncode == 0
    assert "runs already" in second.stderr
    assert "torchserve" in second.stdout
    assert [(one["name"], one["pid"]) for one in shell.status()] == before


def test_a_second_supervisor_on_the_same_folder_is_refused(shell: Shell) -> None:
    with pytest.raises(Unavailable, match=r"process \d+ runs the stack in .* already"), running_stack(shell.folder):
        pass


def test_the_settings_file_names_every_address_and_is_readable_by_its_owner_alone(shell: Shell) -> None:
    file = shell.folder / "settings.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    settings = load_settings(shell.folder)
    assert existing_topics(settings.kafka.bootstrap_servers) >= TOPICS.keys()
    with psycopg.connect(settings.postgres.dsn.get_secret_value()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert settings.models.key_file is not None
    assert settings.models.key_file.is_file()
    assert settings.objects.url == (shell.folder / "objects").as_uri()


def test_uploads_are_kept_from_other_users_of_the_machine(shell: Shell) -> None:
    assert stat.S_IMODE(shell.folder.stat().st_mode) & 0o007 == 0


def test_no_secret_is_on_a_command_line_or_in_a_file_that_others_may_read(shell: Shell) -> None:
    secrets = [file.read_text() for file in (shell.folder / "postgres").glob("*.password")]
    assert len(secrets) == 2
    assert not [line for line in processes_of(shell.folder) if any(secret in line for secret in secrets)]
    readable = [file for file in (shell.folder / "run").iterdir() if file.stat().st_mode & 0o077]
    assert not [file for file in readable if any(secret in file.read_text() for secret in secrets)]


def test_the_doctor_finds_a_running_stack_in_good_health(shell: Shell) -> None:
    findings = shell.findings()
    assert {"python", "packages", "java", "jars", "disk", "memory", "folder", "ports", "clock"} <= findings.keys()
    for check in ("java", "jars", "kafka", "postgres", "torchserve", "objects"):
        assert findings[check] == "ok"


def test_after_a_kill_of_the_supervisor_nothing_lives_and_the_next_up_has_the_same_ports_and_data(shell: Shell) -> None:
    before = load_settings(shell.folder)
    with psycopg.connect(before.postgres.dsn.get_secret_value()) as connection:
        connection.execute("create table kept as select 42 as answer")
    state = read_state(shell.folder)
    assert state is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)
    eventually(lambda: not processes_of(shell.folder))
    assert shell.run("status").returncode == 1
    assert shell.findings()["stack"] == "warn"

    shell.up()
    after = load_settings(shell.folder)
    assert after.kafka == before.kafka
    assert after.models == before.models
    with psycopg.connect(after.postgres.dsn.get_secret_value()) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_down_stops_everything_and_says_so_and_a_second_down_has_nothing_to_do(shell: Shell) -> None:
    stopped = shell.run("down")
    assert (stopped.returncode, processes_of(shell.folder)) == (0, [])
    assert "Stopped." in stopped.stderr
    assert "Nothing runs" in shell.run("down").stderr


# -- external addresses and programs beside the stack ----------------------------------------------------------------


def options(kafka: Kafka, postgres: Postgres, **more: object) -> StackOptions:
    """Everything from outside, so that nothing is started but what `more` says."""
    return StackOptions.model_validate(
        {
            "kafka_bootstrap": kafka.bootstrap_servers,
            "postgres_dsn": postgres.dsn,
            "models_url": "http://127.0.0.1:9",
            "objects_url": "s3://bucket/prefix",
            "workers": NO_WORKERS,
            "web": False,
            **more,
        }
    )


def test_a_component_whose_address_is_given_is_not_started(kafka: Kafka, postgres: Postgres, tmp_path: Path) -> None:
    with running_stack(tmp_path / "data", options(kafka, postgres)) as stack:
        assert stack.components == {}
        assert {one.name: one.phase for one in stack.state.components} == dict.fromkeys(
            ("objects", "kafka", "postgres", "torchserve"), Phase.EXTERNAL
        )
        assert postgres.dsn not in stack.state.model_dump_json()
        settings = load_settings(tmp_path / "data")
    assert settings.kafka.bootstrap_servers == kafka.bootstrap_servers
    assert settings.objects.url == "s3://bucket/prefix"


def test_a_program_beside_the_stack_gets_the_settings_and_is_started_again_when_it_crashes(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    beside = options(kafka, postgres, extra=(Program("beside", SLEEP),))
    with running_stack(tmp_path / "data", beside) as stack:
        component = stack.components["beside"].component
        eventually(lambda: component.pid)
        first = component.pid
        assert first is not None
        environment = Path(f"/proc/{first}/environ").read_bytes()
        assert f"PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS={kafka.bootstrap_servers}".encode() in environment
        os.kill(first, signal.SIGKILL)
        eventually(lambda: component.pid not in (None, first))
    assert processes_of(tmp_path / "data") == []


def test_a_stack_that_does_not_start_leaves_nothing_running_and_its_state_says_why(
    kafka: Kafka, postgres: Postgres, tmp_path: Path
) -> None:
    broken = Program("broken", (sys.executable, "-c", "raise SystemExit(3)"), ready_url="http://127.0.0.1:9/readyz")
    wanted = options(kafka, postgres, extra=(Program("beside", SLEEP), broken))
    folder = tmp_path / "data"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "options.json").write_text(wanted.model_dump_json())
    ran = subprocess.run(
        [sys.executable, "-m", "services.local.stack", str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "broken does not start" in ran.stderr
    state = last_state(folder)
    assert state is not None
    assert (state.phase, [one.name for one in state.failures]) == (Phase.FAILED, ["broken"])
    assert processes_of(folder) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--workers", "x=1"), "no such group: x (there are intake, judge, learn)"),
        (("--workers", "judge=two"), "'two' is no number"),
        (("--port", "web"), "'web' is not of the form NAME=VALUE"),
        (("--external", "redis=localhost"), "no such component: redis"),
    ],
)
def test_wrong_options_are_refused_with_what_there_is(tmp_path: Path, arguments: tuple[str, str], text: str) -> None:
    folder = tmp_path / "data"
    refused = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["up", "--data", str(folder), *arguments])
    assert refused.exit_code == 2
    assert text in refused.output
    assert not folder.exists()
