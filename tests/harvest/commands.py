"""What the tests of whole harvests share: options, lists, and reading what comes of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from tests.harvest.web import Web

QUICK = ("--side", "320", "--no-flips", "--delay", "0")
LOCAL = ("--allow-http", "--allow-network", "127.0.0.0/8", "--allow-network", "::1/128", "--contact", "me@example.org")


def reach(site: Web) -> list[str]:
    return ["--allow-host", "localhost", "--port", str(site.port), *LOCAL]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_list(file: Path, rows: list[tuple[str, ...]], header: str) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([header.split(","), *rows])
    return file
