"""The sheet of the worst pictures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.core.pixels import encode_png
from trainer import worst
from trainer.single_cases import SingleItem


def item(*, forged: bool) -> SingleItem:
    mask = np.zeros((40, 60), bool)
    mask[:20] = forged
    picture = np.full((40, 60, 3), 90, np.uint8)
    return SingleItem("a", "web", encode_png(picture), mask, "real")


def test_a_forgery_is_as_bad_as_its_mask_and_an_authentic_picture_as_what_is_flagged() -> None:
    half = np.zeros((40, 60), np.uint8)
    half[:10] = 255
    assert worst.failure(item(forged=True), half, 0.9).loss == pytest.approx(1 / 3)
    assert worst.failure(item(forged=False), half, 0.9).loss == pytest.approx(0.25)


def test_the_worst_of_a_set_are_listed_and_drawn(
    one_forgery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "worst.png"
    assert worst.main(["--set", str(one_forgery), "--most", "1", "--out", str(sheet), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["forged"] for row in rows] == [True, False]
    drawn = cv2.imread(str(sheet))
    assert drawn is not None
    assert drawn.shape == (worst.SIDE, 6 * worst.SIDE, 3)


def test_nothing_to_look_at_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        worst.main([])
    assert "give --set or --photos" in capsys.readouterr().err
