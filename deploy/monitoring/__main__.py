"""Writes dashboards and rules to where the chart takes them from.

python -m deploy.monitoring                     writes helm/pentimento/dashboards and helm/pentimento/rules
python -m deploy.monitoring --check             exit 1 if a file there is stale, missing or not ours
python -m deploy.monitoring --runbooks URL      alerts name the runbooks below this address
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring.dashboards import DASHBOARDS
from deploy.monitoring.panels import as_json
from deploy.monitoring.rules import RUNBOOKS, alerts, recorded

HEADING = "# Written by `python -m deploy.monitoring`: change it there.\n"


def files(runbooks: str = RUNBOOKS) -> dict[str, str]:
    """Every file, by its path below the chart."""
    pages = {f"dashboards/{page.file}.json": _json(as_json(page)) for page in DASHBOARDS}
    return pages | {"rules/recorded.yaml": _yaml(recorded()), "rules/alerts.yaml": _yaml(alerts(runbooks))}


def _json(model: dict[str, Any]) -> str:
    return json.dumps(model, indent=2, ensure_ascii=False) + "\n"


def _yaml(model: dict[str, Any]) -> str:
    return HEADING + yaml.safe_dump(model, sort_keys=False, width=110, allow_unicode=True)


def stale(out: Path, runbooks: str = RUNBOOKS) -> list[str]:
    """Files that are not as they should be, those that nobody writes any more included."""
    wanted = files(runbooks)
    found = {str(path.relative_to(out)) for folder in ("dashboards", "rules") for path in (out / folder).glob("*")}
    differing = {name for name, text in wanted.items() if name not in found or (out / name).read_text() != text}
    return sorted(differing | (found - set(wanted)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.monitoring", description="Write dashboards, SLOs and alerts."
    )
    parser.add_argument("--out", type=Path, default=Path("helm/pentimento"), help="default: helm/pentimento")
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="where docs/runbooks is served")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    chosen = parser.parse_args(arguments)
    differing = stale(chosen.out, chosen.runbooks)
    if chosen.check:
        if differing:
            print(f"stale: {', '.join(differing)}: run `python -m deploy.monitoring`", file=sys.stderr)
        return 1 if differing else 0
    wanted = files(chosen.runbooks)
    for name in differing:
        path = chosen.out / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
            print(f"wrote {path}")
        else:
            print(f"{path} is not ours: remove it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
