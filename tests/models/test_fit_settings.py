"""Settings of a fit: options before profiles before defaults, and what is recorded of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer import profiles
from trainer.fit_settings import PROFILED, makers, parsed


def test_a_profile_gives_defaults_that_options_go_before() -> None:
    settings = parsed(["difference", "--profile", "h200", "--batch", "4", "--no-compile"])
    assert (settings.size, settings.batch, settings.steps, settings.compile) == (384, 4, 40_000, False)
    assert parsed(["difference"]).size == 256


def test_a_profile_has_values_of_its_own_for_a_network() -> None:
    assert parsed(["web_iml", "--profile", "h200"]).size == 512
    assert parsed(["correlation", "--profile", "h200"]).size == 384


@pytest.mark.parametrize("network", ["correlation", "difference", "pair_kind", "web_iml"])
@pytest.mark.parametrize("name", profiles.names())
def test_every_shipped_profile_fits_every_network(name: str, network: str) -> None:
    assert parsed([network, "--profile", name]).network == network


def test_a_time_that_is_asked_for_goes_before_the_steps_of_a_profile() -> None:
    settings = parsed(["web_iml", "--profile", "h200", "--minutes", "90"])
    assert (settings.steps, settings.minutes) == (None, 90)
    assert parsed(["web_iml", "--profile", "h200", "--minutes", "90", "--steps", "7"]).steps == 7


def test_a_file_serves_as_a_profile(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("batch = 6\nmine = 0.3\n[web_iml]\nbatch = 8\n")
    assert parsed(["difference", "--profile", str(mine)]).batch == 6
    settings = parsed(["web_iml", "--profile", str(mine)])
    assert (settings.batch, settings.mining.share) == (8, 0.3)


@pytest.mark.parametrize(
    ("content", "fault"),
    [("batches = 6", "sets batches"), ("[web_iml]\nout = 'x'", "sets out"), ("batch = ", "is not TOML")],
)
def test_a_profile_that_cannot_be_meant_is_refused(content: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=fault):
        profiles.profile(str(path), "difference", PROFILED)


def test_an_unknown_profile_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(["difference", "--profile", "laptop"])
    assert ended.value.code == 2
    assert "cpu, h200, multi" in capsys.readouterr().err


def test_the_resolved_settings_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(["web_iml", "--profile", "h200", "--size", "320", "--mine", "--print-settings"])
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["network"], printed["size"], printed["batch"]) == ("web_iml", 320, 32)
    assert printed["mining"]["share"] == 0.2
    assert printed["workers"] >= 1


@pytest.mark.parametrize(
    "options",
    [["--mine", "1.5"], ["--mine", "--mine-pool", "1"], ["--mine", "--mine-every", "2"], ["--batch", "0"]],
)
def test_numbers_that_make_no_fit_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed(["web_iml", *options])
    assert ended.value.code == 2
    assert options[-2].split("=")[0] in capsys.readouterr().err


def test_processes_of_a_node_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    assert makers("auto", 4, "cpu") == 60
    assert makers("3", 4, "cpu") == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert makers("auto", 1, "cuda") == 7


def test_the_recorded_command_leaves_out_where_weights_and_records_went() -> None:
    line = [
        "web_iml",
        "--photos",
        "pictures",
        "--out",
        "/somewhere/else",
        "--track=http://me:secret@host",
        "--steps",
        "5",
    ]
    settings = parsed(line)
    assert settings.command == "python -m trainer.fit web_iml --photos pictures --steps 5"
    assert settings.out == Path("/somewhere/else")
    assert settings.track == "http://me:secret@host"


def test_pretrained_weights_are_named_by_an_option_or_else_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed(["web_iml"]).backbone_weights is None
    monkeypatch.setenv("PENTIMENTO_BACKBONE_WEIGHTS", "from/environment.safetensors")
    assert parsed(["web_iml"]).backbone_weights == Path("from/environment.safetensors")
    given = parsed(["web_iml", "--backbone-weights", "given.safetensors"])
    assert given.backbone_weights == Path("given.safetensors")
