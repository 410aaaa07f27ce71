"""The bench in its quick form: it runs, and its page holds every figure that is promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.pictures import mosaics
from services.core.intake.examine import Limits, examine
from services.core.intake.fingerprint import MAX_DISTANCE, distance

PHOTOS = sorted((Path(__file__).parents[2] / "samples" / "originals").glob("*.jpg"))


@pytest.mark.slow
def test_the_bench_measures_both_ways_and_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "benchmarks.md"
    assert main(["--quick", "--out", str(page), "--data", str(tmp_path / "data")]) == 0, capsys.readouterr().err
    text = page.read_text()
    for figure in ("images/s", "**ratio", "p95 one at a time", "`unconstrained`", "exact duplicates", "per core", "GB"):
        assert figure in text
    assert "Verdicts delivered more than once: 0." in text


def test_the_pictures_to_measure_with_are_the_same_each_time_and_nobodys_duplicates(tmp_path: Path) -> None:
    first = mosaics(PHOTOS, tmp_path / "a", 12, seed=1)
    second = mosaics(PHOTOS, tmp_path / "b", 12, seed=1)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    hashes = [examine(path.read_bytes(), Limits()).fingerprint.pdq for path in first]
    distances = [distance(one, other) for i, one in enumerate(hashes) for other in hashes[:i]]
    assert min(distances) > MAX_DISTANCE
