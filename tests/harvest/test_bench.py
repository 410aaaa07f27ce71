"""The bench of a harvest measures every stage, and its page adds them up."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.harvest import MIMLV2, measured, page

STAGES = ("fetch", "look", "search", "verify", "annotate")


def test_the_page_adds_the_stages_up() -> None:
    told = page(dict.fromkeys(STAGES, 0.5), 20, [2], "a machine")
    hours = 1.5 * MIMLV2 / 3600
    assert f"| a list of pairs | 1.5000 | 2,400 | {hours:,.1f} | {hours / 48:,.2f} |" in told
    assert "| two pools | 2.5000 | 1,440 |" in told


@pytest.mark.slow
def test_every_stage_costs_something(tmp_path: Path) -> None:
    costs = measured(tmp_path, 2)
    assert tuple(costs) == STAGES
    assert all(seconds > 0 for seconds in costs.values())
