"""The capacity table: from measured figures, and as the page about operations has it."""

from __future__ import annotations

import pytest

from bench.capacity import BENCHMARKS, END, RATES, Measured, Prices, measured, plan, table, written
from tests.monitoring.expressions import ROOT

PRICES = Prices(core=25.0, gpu=500.0, gpu_images_s=None)


def test_the_table_on_the_page_is_that_of_the_benchmarks() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    text = table(RATES, measured(BENCHMARKS.read_text()), PRICES)
    assert written(page, text) == page


def test_the_figures_are_those_of_the_benchmarks_page() -> None:
    page = (
        "on 2026-11-24: 2 cores (x86_64)\n| images/s | 0.88 | 0.80 | x |\n| p50 one at a time | 1124 ms | 1171 ms |\n"
        "| guard and fingerprint (decoding, PDQ), images/s per core | 74 |\n"
    )
    assert measured(page) == Measured(models_per_core=0.44, intake_per_core=74, alone_s=1.124)


def test_a_benchmarks_page_without_a_figure_is_refused() -> None:
    with pytest.raises(ValueError, match="make bench"):
        measured("# Benchmarks\n")


def test_a_gpu_takes_the_place_of_the_model_servers_cores() -> None:
    known = Measured(models_per_core=0.5, intake_per_core=50, alone_s=1.0)
    with_cores = plan(7.0, known, PRICES)
    with_gpus = plan(7.0, known, Prices(core=25.0, gpu=500.0, gpu_images_s=5.0))
    assert (with_cores.model_cores, with_cores.gpus) == (20, 0)
    assert (with_gpus.model_cores, with_gpus.gpus) == (0, 2)
    assert with_cores.partitions >= 2 * max(with_cores.intake, with_cores.judge)


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="has no"):
        written(f"# Operations\n{END}\n", "| x |")
