"""One round of the loop in a process of its own, which kills itself where it is told to.

`python -m tests.learning.looping OPTIONS.json [STEP MOMENT]`. The gate lets everything pass: what it really says of a
fit of a few steps depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.learn_loop import one_round
from services.cli.learn_steps import REPORT, Steps
from services.core.learn.rounds import Done, Options, Round
from services.settings import load_settings

if TYPE_CHECKING:
    from trainer.loop.machine import Moment


class Passing(Steps):
    """Every challenger passes."""

    async def gate(self, at: Round) -> Done:
        files = self.files(at)
        files.report.mkdir(exist_ok=True)
        for name in REPORT:
            (files.report / name).write_text(json.dumps({"verdict": "pass"}))
        return Done(report_key=f"rounds/{at.id:06}/report")


def main(options: str, *where: str) -> None:
    def tell(at: Round, moment: Moment) -> None:
        if (at.step, moment) == where:
            os.kill(os.getpid(), signal.SIGKILL)

    given = Options.model_validate_json(Path(options).read_text())
    found = asyncio.run(one_round(load_settings(), given, tell, steps=Passing))
    print(json.dumps(None if found is None else found.as_json()))


if __name__ == "__main__":
    main(*sys.argv[1:])
