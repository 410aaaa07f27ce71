"""Prometheus' own reader and evaluator over the rules. `make promtool` builds it, where Go is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.monitoring.expressions import CHART, ROOT, expressions

BUILT = ROOT / ".cache" / "tools" / "bin" / "promtool"
BURN_RATES = Path(__file__).with_name("burn_rates.yaml")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def promtool() -> str:
    found = str(BUILT) if BUILT.exists() else shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not there: run `make promtool`, which needs Go")
    return found


def told(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rule_files_are_rule_files(promtool: str) -> None:
    for file in (CHART / "rules").glob("*.yaml"):
        assert "SUCCESS" in told(promtool, "check", "rules", "--lint-fatal", str(file))


def test_every_expression_is_promql(promtool: str) -> None:
    for expression in sorted(set(expressions())):
        told(promtool, "--experimental", "promql", "format", expression.replace("$__rate_interval", "5m"))


def test_budgets_that_burn_call_somebody_and_others_do_not(promtool: str, tmp_path: Path) -> None:
    for file in (*(CHART / "rules").glob("*.yaml"), BURN_RATES):
        shutil.copy(file, tmp_path)
    assert "SUCCESS" in told(promtool, "test", "rules", str(tmp_path / BURN_RATES.name))
