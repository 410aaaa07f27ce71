"""What the commands that write a page of figures share: how this run is named, and where its page goes.

In: a command's name, arguments and options. Out: a `Setting`; a file or the page on stdout.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from services.core.policy import DEFAULT_POLICY
from trainer.provenance import machine
from trainer.tables import Setting


def this_run(program: str, arguments: Sequence[str], *, version: str, threads: int) -> Setting:
    """The run of `python -m PROGRAM ARGUMENTS`, today and here, by the policy that ships."""
    return Setting(
        date=time.strftime("%Y-%m-%d"),
        machine=machine("cpu", threads=threads, processes=1),
        version=version,
        policy=DEFAULT_POLICY.version,
        command=shlex.join(["python", "-m", program, *arguments]),
    )


def deliver(page: str, target: Path | None) -> None:
    """Writes a page to a file, or to stdout where there is none."""
    if target:
        target.write_text(page, encoding="utf-8")
    else:
        print(page)
