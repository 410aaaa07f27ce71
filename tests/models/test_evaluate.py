"""The evaluation command: one name for both evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer import evaluate


def test_the_models_name_chooses_the_evaluation(one_forgery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["constrained", "--set", str(one_forgery), "--json"]) == 0
    assert "plain_iou" in json.loads(capsys.readouterr().out.splitlines()[0])
    assert evaluate.main(["unconstrained", "--set", str(one_forgery), "--json", "--change", "clean"]) == 0
    assert "flagged" in json.loads(capsys.readouterr().out.splitlines()[0])


@pytest.mark.parametrize("arguments", [["nothing", "--set", "somewhere"], []])
def test_an_unknown_model_ends_the_command(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(arguments)
