"""The samples: intake does with each what `truth.json` says, and the script that makes them still makes them."""

from __future__ import annotations

import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.core.errors import Rejected
from services.core.events import Fingerprint
from services.core.intake.examine import Limits, examine
from services.core.intake.fingerprint import MAX_DISTANCE, distance
from services.core.intake.guard import admit
from services.core.intake.lookup import verify

SAMPLES = Path(__file__).parents[3] / "samples"
ORIGINALS = {path.stem: path.read_bytes() for path in sorted((SAMPLES / "originals").glob("*.jpg"))}
TRUTH: list[dict[str, Any]] = json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))
USABLE = [entry for entry in TRUTH if entry["rejection"] is None]


@cache
def print_of(name: str) -> Fingerprint:
    return examine(ORIGINALS[name], Limits()).fingerprint


@pytest.mark.parametrize("entry", TRUTH, ids=[entry["file"] for entry in TRUTH])
def test_a_sample_is_let_in_or_rejected_as_its_truth_says(entry: dict[str, Any]) -> None:
    data = (SAMPLES / entry["file"]).read_bytes()
    if entry["rejection"] is not None:
        with pytest.raises(Rejected) as caught:
            examine(data, Limits())
        assert caught.value.code == entry["rejection"]
    else:
        assert examine(data, Limits()).fingerprint.pdq_quality >= 50


@pytest.mark.parametrize("entry", USABLE, ids=[entry["file"] for entry in USABLE])
def test_lookup_finds_a_samples_original_and_no_other(entry: dict[str, Any]) -> None:
    data = (SAMPLES / entry["file"]).read_bytes()
    own = examine(data, Limits()).fingerprint.pdq
    near = [name for name in ORIGINALS if distance(own, print_of(name).pdq) <= MAX_DISTANCE]
    answers = verify(data, [ORIGINALS[name] for name in near])
    found = [f"originals/{name}.jpg" for name, answer in zip(near, answers, strict=True) if answer is not None]
    assert found == ([entry["original"]] if entry["original"] else [])


def test_the_samples_are_what_their_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(SAMPLES / "make.py"))["main"](tmp_path)
    assert (tmp_path / "truth.json").read_text() == (SAMPLES / "truth.json").read_text()
    for made in sorted(tmp_path.rglob("*.*")):
        kept = SAMPLES / made.relative_to(tmp_path)
        if made.name in ("truncated.jpg", "bomb.png", "page.jpg", "truth.json"):
            assert made.read_bytes() == kept.read_bytes()
            continue
        first, second = (admit(path.read_bytes(), Limits()).rgb.astype(int) for path in (made, kept))
        assert first.shape == second.shape
        assert np.abs(first - second).mean() < 1.0, made.name  # codecs differ by rounding between versions


@pytest.mark.parametrize("entry", [e for e in TRUTH if e["mask"]], ids=lambda entry: entry["file"])
def test_a_forgery_differs_from_its_original_where_the_mask_says_and_nowhere_else(entry: dict[str, Any]) -> None:
    mask = admit((SAMPLES / entry["mask"]).read_bytes(), Limits()).rgb[..., 0] > 0
    upload = admit((SAMPLES / entry["file"]).read_bytes(), Limits()).rgb.astype(int)
    assert mask.shape == upload.shape[:2]
    assert 0.003 < mask.mean() < 0.5
    if entry["original"]:
        difference = np.abs(upload - admit((SAMPLES / entry["original"]).read_bytes(), Limits()).rgb).max(axis=2)
        assert difference[mask].mean() > 8 * difference[~mask].mean()
