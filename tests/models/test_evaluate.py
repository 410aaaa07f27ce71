"""The evaluation command, on a set of one forgery."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_archive.check import GOLDEN
from trainer import evaluate


@pytest.fixture
def one_forgery(tmp_path: Path) -> Path:
    """A set like those that are measured: the golden forgery with a mask around its second tower."""
    for name in ("upload", "original"):
        shutil.copy(GOLDEN / f"{name}.jpg", tmp_path)
    mask = np.zeros((320, 480), np.uint8)
    mask[105:178, 88:130] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    rows = "forged,mask,original,width,height,mask_area\nupload.jpg,mask.png,original.jpg,480,320,0.02\n"
    (tmp_path / "manifest.csv").write_text(rows)
    return tmp_path


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
