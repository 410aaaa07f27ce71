"""The measurement of lookup in its smallest form: both parts run, and their page holds what is promised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.lookup import drawn, earlier
from bench.lookup.__main__ import main
from bench.lookup.changes import CHANGES, Change, Source, saved
from bench.lookup.methods import fused
from bench.lookup.page import interval, replaced

SAMPLES = Path(__file__).parents[2] / "samples"
PHOTOS = ["--photos", str(SAMPLES / "originals"), "--photos", str(SAMPLES / "donors")]


@pytest.mark.slow
def test_what_is_found_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "lookup.md"
    assert main(["recall", *PHOTOS, "--split", "all", "--most", "2", "--json", "--out", str(page)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["change"] for row in rows if row["group"] not in ("donor object", "not registered")} == {
        change.name for change in CHANGES if not change.outlines
    }
    again = [row for row in rows if row["change"] == "JPEG quality 90" and row["method"] == "PDQ"]
    assert [(row["place"], row["first"] == row["wanted"]) for row in again] == [(1, True), (1, True)]
    text = page.read_text()
    for part in ("## What is found", "crop to 60% of each side", "PDQ @10", "PDQ, precision", "**whole picture"):
        assert part in text


def test_what_an_index_costs_is_measured_and_a_filled_one_is_used_again(tmp_path: Path) -> None:
    page, data = tmp_path / "lookup.md", tmp_path / "data"
    page.write_text(replaced("", "recall", "## What is found\n\nAll."))
    wanted = [
        "--originals",
        "60",
        "--hashes",
        "80",
        "--queries",
        "3",
        "--verifications",
        "1",
        "--shared-buffers",
        "128MB",
    ]
    texts = []
    for _ in range(2):
        assert main(["scale", *wanted, "--data", str(data), "--out", str(page)]) == 0
        texts.append(page.read_text())
    for part in (
        "## What is found\n\nAll.",
        "p50 / p95 / p99",
        "`Embeddings.nearest`",
        "disk, together",
        "| 60 | 80, hashes alone |",
    ):
        assert part in texts[0]
    built = [[line for line in text.splitlines() if line.startswith("| graph of the vectors built")] for text in texts]
    assert built[0] == built[1]  # the second run took the index that was there, and said what it took then


@pytest.mark.slow
def test_what_visual_words_cost_is_measured_and_the_wanted_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["--originals", "50", "60", "--lists-from", "60", "--queries", "8", "--most", "3"]
    assert main(["words", *wanted, "--shared-buffers", "128MB", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["pack_s"] is None for row in rows] == [False, True]
    for row in rows:
        assert row["found"] == {"60": 1.0, "20": 1.0}
        assert len(row["database_s"]) == len(row["agreement_s"]) == 8
        assert row["bytes_of"]["packed"] > 50 * 1000 * 8


def test_what_a_late_original_finds_by_words_is_measured_by_kind_of_upload(capsys: pytest.CaptureFixture[str]) -> None:
    assert earlier.main([*PHOTOS, "--most", "2", "--uploads", "2", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "uploads are kept" in line] == ["2", "20"]
    whole = [line for line in lines if line.startswith("part of 60% of each side (1)")]
    assert len(whole) == 4
    assert all(line.split()[-len(earlier.THRESHOLDS)] == "100%" for line in whole)


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
def test_a_change_is_the_same_each_time_and_leaves_its_source_alone(change: Change) -> None:
    chance = np.random.default_rng(1)
    rgb = chance.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    labels = np.zeros((96, 128), np.int32)
    labels[20:70, 30:90] = 1
    stranger = chance.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    before = rgb.copy()
    made = [change.upload(Source(rgb, labels), stranger, np.random.default_rng(2)) for _ in range(2)]
    assert made[0] is not None
    assert made[0] == made[1]
    assert made[0] != saved(stranger)
    assert np.array_equal(rgb, before)


def test_places_are_kept_for_what_only_vectors_find() -> None:
    assert fused([1, 2, 3, 4, 5, 6], [2, 7, 8, 9])[:5] == [1, 2, 3, 7, 8]
    assert fused([1], [2, 3, 4, 5, 6])[:5] == [1, 2, 3, 4, 5]
    assert fused([1, 2, 3, 4, 5, 6], [1])[:5] == [1, 2, 3, 4, 5]


def test_an_interval_holds_the_share_and_is_wider_for_fewer_photographs() -> None:
    few, many = interval([[True], [False]] * 5), interval([[True], [False]] * 500)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


def test_a_section_is_replaced_and_the_other_one_kept() -> None:
    page = replaced(replaced(replaced("", "scale", "costs"), "recall", "found"), "scale", "costs more")
    assert page.index("found") < page.index("costs more")
    assert "\n\ncosts\n" not in page


def test_drawn_pictures_are_the_same_whatever_their_number_and_have_the_spread_asked_for() -> None:
    real = np.random.default_rng(3).standard_normal((4000, drawn.LENGTH)).astype(np.float32)
    real[:, 0] *= 4
    spread = drawn.Spread.of(drawn.unit(real), "as wanted")
    spreads = drawn.Spreads(spread, drawn.HashSpread.fair())
    few, many = drawn.pictures(10, spreads, 1), drawn.pictures(2000, spreads, 1)
    assert np.array_equal(few.vectors, many.vectors[:10])
    assert np.array_equal(few.pdq, many.pdq[:10])
    widths = many.vectors.reshape(-1, drawn.LENGTH).astype(np.float32).std(axis=0)
    assert widths[0] > 2 * widths[1:].max()


def test_drawn_hashes_have_the_correlations_of_those_asked_for() -> None:
    bits = np.random.default_rng(4).integers(0, 2, (3000, 256), np.uint8)
    copied = np.random.default_rng(5).random((3000, 256)) < 0.8
    bits[:, 128:] = np.where(copied[:, 128:], bits[:, :128], bits[:, 128:])  # each bit says much of another one
    spread = drawn.HashSpread.of(np.packbits(bits, axis=1))
    again = np.unpackbits(spread.draw(3000, np.random.default_rng(6)), axis=1)
    agree = (again[:, :128] == again[:, 128:]).mean()
    assert agree == pytest.approx(0.9, abs=0.02)
    assert (again[:, :127] == again[:, 1:128]).mean() == pytest.approx(0.5, abs=0.02)
    far = drawn.distances(np.packbits(again[:300], axis=1))
    assert far.std() == pytest.approx(drawn.distances(np.packbits(bits[:300], axis=1)).std(), rel=0.05)


def test_exact_answers_are_those_of_a_plain_sort() -> None:
    pictures = drawn.pictures(500, drawn.Spreads(drawn.Spread.even(), drawn.HashSpread.fair()), 1)
    query = drawn.queries(pictures, 1, drawn.Spread.even(), 1)[0]
    flat = pictures.vectors.reshape(-1, drawn.LENGTH).astype(np.float64)
    asked = query.vectors[0].astype(np.float16).astype(np.float64)
    order = np.argsort(-(flat @ asked) / np.linalg.norm(flat, axis=1))[:10]
    assert drawn.nearest_vectors(pictures, query.vectors[0], 10).tolist() == order.tolist()
    assert drawn.nearest_vectors(pictures, query.vectors[0], 1)[0] == query.target * 5
    assert drawn.nearest_hashes(pictures, query.pdq, 1)[0] == query.target
