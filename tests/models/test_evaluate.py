"""The evaluation command, on a set of one forgery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer import evaluate


def test_a_set_is_measured_and_printed_as_a_table(one_forgery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["constrained", "--set", str(one_forgery)]) == 0
    printed = capsys.readouterr().out
    assert "precision" in printed
    assert "constrained" in printed


def test_a_report_counts_forged_and_authentic_pictures(one_forgery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--set", str(one_forgery), "--uploads", "jpeg80", "--json"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["model"], r["forged"], r["authentic"]) for r in reports] == [
        ("constrained", 1, len(evaluate.COPIES)),
        ("unconstrained", 1, 1),
    ]
    assert all(r["failed"] == 0 for r in reports)
    assert all(r["uploads"] == "jpeg80" for r in reports)
    assert 0.0 < reports[0]["f1"] <= 1.0


def test_a_picture_that_cannot_be_read_counts_as_missed(one_forgery: Path) -> None:
    (one_forgery / "upload.jpg").write_bytes(b"no picture")
    report = evaluate.evaluate_unconstrained(one_forgery, evaluate.DISTURBED["none"])
    assert (report.failed, report.f1) == (1, 0.0)


def test_an_unknown_model_ends_the_command_with_its_name(one_forgery: Path) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["nothing", "--set", str(one_forgery)])
