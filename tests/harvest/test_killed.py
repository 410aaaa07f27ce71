"""A harvest that is killed at any moment goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harvest.commands import QUICK, lines, reach, write_list
from tests.harvest.pictures import forged, jpeg, photo, png
from tests.harvest.web import Web, served
from trainer.harvest.__main__ import main

pytestmark = pytest.mark.slow  # takes a minute or more of a small machine

ROOT = Path(__file__).parents[2]


def started(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "trainer.harvest", *command], cwd=ROOT, env=environment)


def killed_once_it_noted(command: list[str], journal: Path, count: int) -> Counter[str]:
    """Kills a harvest as soon as a journal has some lines. Returns the keys that it noted, with how often."""
    with started(command) as harvest:
        while not journal.exists() or journal.read_bytes().count(b"\n") < count:
            with suppress(subprocess.TimeoutExpired):
                harvest.wait(0.02)
                pytest.fail("it ended before it could be killed")
        os.kill(harvest.pid, signal.SIGKILL)
    return Counter(json.loads(line)["key"] for line in journal.read_bytes().split(b"\n") if line.endswith(b"}"))


def test_killed_while_it_fetches_a_harvest_goes_on_and_fetches_nothing_twice(tmp_path: Path) -> None:
    pictures = {f"/after-a-while/{number}.png": png(photo(number % 6, 64 + number)) for number in range(10)}
    with served(Web(pictures)) as site:
        urls = [site.url(path) for path in pictures]
        forgeries = write_list(tmp_path / "forged.csv", [(url,) for url in urls[:8]], "url")
        originals = write_list(tmp_path / "originals.csv", [(url,) for url in urls[8:]], "url")
        out = tmp_path / "mined"
        command = ["pools", "--forged", str(forgeries), "--originals", str(originals), "--out", str(out), "--json"]
        command += ["--at-once", "1", *QUICK, *reach(site)]
        noted = killed_once_it_noted(command, out / "state" / "fetched.jsonl", 3)
        assert 3 <= len(noted) < 10
        main(command)
        counts = site.counts()
        assert all(counts[url.removeprefix(site.url(""))] == 1 for url in noted)
        assert sum(counts[path] for path in pictures) <= 11  # one may have been on its way
    figures = json.loads((out / "statistics.json").read_text())
    assert figures["stages"]["fetch"]["done"] == 10 - len(noted)
    assert figures["rows"] == 8 and figures["fates"]["failed"] == 0


@pytest.mark.slow
def test_killed_while_it_annotates_a_harvest_goes_on_and_annotates_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for place in range(4):
        (folder / f"o{place}.jpg").write_bytes(jpeg(photo(place)))
        (folder / f"f{place}.jpg").write_bytes(jpeg(forged(place)))
        rows.append((f"pictures/f{place}.jpg", f"pictures/o{place}.jpg"))
    out = tmp_path / "mined"
    command = ["pairs", str(write_list(tmp_path / "pairs.csv", rows, "forged,original")), "--out", str(out), *QUICK]
    noted = killed_once_it_noted(command, out / "state" / "annotated.jsonl", 1)
    assert main(command) == 0
    again = Counter(line["key"] for line in lines(out / "state" / "annotated.jsonl"))
    assert noted.keys() <= again.keys() and set(again.values()) == {1} and len(again) == 4
    assert len(lines(out / "manifest.jsonl")) == 4
