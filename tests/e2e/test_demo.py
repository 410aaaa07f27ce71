"""`pentimento demo` as a newcomer runs it: every sample gets its one verdict, and a picture that shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from services.core.pixels import open_image

ROOT = Path(__file__).parents[2]
TRUTH = {Path(entry["file"]).name: entry for entry in json.loads((ROOT / "samples" / "truth.json").read_bytes())}


def test_the_demo_reaches_one_verdict_per_sample_and_leaves_a_picture_of_each(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith("PENTIMENTO_")}
    cache = {name: value for name, value in os.environ.items() if name == "PENTIMENTO_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", "from services.cli import main; main()", "demo", "--json",
         "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")],
        env={**own, **cache}, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(result["file"] for result in results) == sorted(TRUTH)
    assert all(len(result["verdicts"]) == 1 for result in results)
    assert json.loads((tmp_path / "out" / "verdicts.json").read_bytes()) == results

    decisions = {result["file"]: result["verdicts"][0]["decision"] for result in results}
    for name, entry in TRUTH.items():
        if entry["rejection"] is not None or entry["original"] is not None:  # the blind path may err, these may not
            assert decisions[name] in entry["decisions"], name
        picture = tmp_path / "out" / f"{Path(name).stem}.png"
        assert picture.exists() == (decisions[name] != "rejected"), name
        if picture.exists():
            assert open_image(picture.read_bytes()).width >= 960
