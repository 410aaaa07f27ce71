"""Commands that need no stack: what they say, and how they end when they are used wrongly or nothing answers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.console import duration
from services.cli.originals import original_id
from services.core.letters import preview
from services.core.policy import DEFAULT_POLICY
from tests.cli.conftest import SAMPLES, Pentimento

COMMANDS = (
    ("demo",),
    ("submit",),
    ("originals", "add"),
    ("originals", "list"),
    ("originals", "remove"),
    ("originals", "import"),
    ("verdicts",),
    ("review", "queue"),
    ("review", "stats"),
    ("review", "open"),
    ("review", "honeypots", "list"),
    ("review", "honeypots", "add"),
    ("review", "honeypots", "retire"),
    ("replay", "list"),
    ("replay", "show"),
    ("replay", "redrive"),
    ("mask",),
    ("annotate",),
    ("package",),
    ("policy", "show"),
    ("up",),
    ("down",),
    ("status",),
    ("doctor",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(pentimento: Pentimento, command: tuple[str, ...]) -> None:
    told = pentimento(*command, "--help")
    assert told.status == 0
    assert "Example" in told.stdout


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_command_of_the_trainer_passes_its_arguments_on(pentimento: Pentimento, command: str) -> None:
    told = pentimento(command, "--help")
    assert told.status == 0
    assert "--threads" in told.stdout


def test_a_harvest_passes_its_arguments_and_its_exit_status_on(pentimento: Pentimento, tmp_path: Path) -> None:
    assert "--allow-host" in pentimento("harvest", "pairs", "--help").stdout
    assert pentimento("harvest", "pairs", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")).status == 2
    assert pentimento("harvest", "page", str(tmp_path / "nothing")).status == 1


def test_policy_show_names_the_version_that_verdicts_carry(pentimento: Pentimento) -> None:
    (shown,) = pentimento("policy", "show", "--json").lines
    assert shown["version"] == DEFAULT_POLICY.version
    assert shown["unconstrained"]["manipulated_at"] == DEFAULT_POLICY.unconstrained.manipulated_at
    assert "unconstrained.manipulated_at" in pentimento("policy", "show").stdout


def test_a_policy_that_is_none_is_named_with_its_fault(
    pentimento: Pentimento, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"least_qes": 7}')
    monkeypatch.setenv("PENTIMENTO_POLICY__FILE", str(file))
    told = pentimento("policy", "show")
    assert told.status == 2
    assert "least_qes" in told.stderr


def test_settings_that_do_not_fit_are_named_without_their_values(
    pentimento: Pentimento, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENTIMENTO_INTAKE__MAX_BYTES", "hunter2")
    told = pentimento("policy", "show")
    assert told.status == 2
    assert "PENTIMENTO_INTAKE__MAX_BYTES" in told.stderr
    assert "hunter2" not in told.stderr


def test_package_builds_archives_and_says_their_digests(pentimento: Pentimento, tmp_path: Path) -> None:
    (built,) = pentimento("package", "--out", tmp_path, "--model", "constrained", "--json").lines
    assert hashlib.sha256(Path(built["archive"]).read_bytes()).hexdigest() == built["sha256"]


def test_package_refuses_a_model_that_there_is_not(pentimento: Pentimento, tmp_path: Path) -> None:
    told = pentimento("package", "--out", tmp_path, "--model", "oracle")
    assert told.status == 2
    assert "oracle is none of constrained, embedder, unconstrained" in told.stderr


def test_submit_says_so_when_no_broker_answers(pentimento: Pentimento, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("PENTIMENTO_OBJECTS__URL", (pentimento.data / "objects").as_uri())
    told = pentimento("submit", SAMPLES / "uploads" / "capsule.jpg")
    assert told.status == 1
    assert "error:" in told.stderr
    assert "Kafka" in told.stderr


def test_submit_takes_an_id_for_one_image_only(pentimento: Pentimento) -> None:
    told = pentimento("submit", SAMPLES / "originals", "--id", "one")
    assert told.status == 2
    assert "--id names one upload, but 6 images were given" in told.stderr


def test_removing_originals_wants_a_yes_where_nobody_can_be_asked(pentimento: Pentimento) -> None:
    told = pentimento("originals", "remove", "boats-0f3a5b7c9d1e")
    assert told.status == 2
    assert "add --yes" in told.stderr


@pytest.mark.parametrize(("answer", "said"), [("n", "nothing was removed"), ("y", "PostgreSQL")], ids=["no", "yes"])
def test_removing_originals_asks_at_a_terminal(tmp_path: Path, answer: str, said: str) -> None:
    """After a yes it goes on: to the database, which is away here."""
    terminal, theirs = os.openpty()
    os.write(terminal, f"{answer}\n".encode())
    nowhere = {"PENTIMENTO_POSTGRES__DSN": "postgresql://127.0.0.1:1/none", "PENTIMENTO_POSTGRES__TIMEOUT_S": "1"}
    told = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", "originals", "remove", "x", "--tenant", "acme"],
        env={**os.environ, **nowhere, "PENTIMENTO_DATA_DIR": str(tmp_path)},
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(theirs)
    os.close(terminal)
    assert told.returncode == 1
    assert "Remove 1 trusted originals of tenant acme?" in told.stderr
    assert said in told.stderr


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s"), (7.9, "7 s"), (100, "1 min 40 s"), (2 * 3600 + 301, "2 h 5 min"), (3 * 86400 + 4 * 3600, "3 d 4 h")],
)
def test_a_duration_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_redrive_wants_ids_or_all_but_not_both(pentimento: Pentimento) -> None:
    assert pentimento("replay", "redrive").status == 2
    assert pentimento("replay", "redrive", "abc", "--all").status == 2


def test_the_demo_says_where_its_samples_must_lie(pentimento: Pentimento, tmp_path: Path) -> None:
    told = pentimento("demo", "--samples", tmp_path)
    assert told.status == 2
    assert "has no folder uploads/" in told.stderr


def test_an_original_has_the_same_id_for_ever_and_another_one_elsewhere() -> None:
    first = original_id("news", "ab" * 32, "harbour/boats at dawn.jpg")
    assert first == original_id("news", "ab" * 32, "harbour/boats at dawn.jpg")
    assert first.startswith("boats-at-dawn-")
    assert len({first, original_id("news", "cd" * 32, "x.jpg"), original_id("other", "ab" * 32, "x.jpg")}) == 3


def test_a_preview_shortens_inline_images_and_shows_other_bytes_as_they_are() -> None:
    shown = preview(b'{"upload_id": "u-1", "image": {"data": "' + b"A" * 5000 + b'"}}')
    assert '"upload_id": "u-1"' in shown
    assert "(5000 characters)" in shown
    assert len(shown) < 1000
    assert preview(b"\xff\x00garbage") == "\\xff\x00garbage"
    assert preview(None) == "(none: a tombstone)"
