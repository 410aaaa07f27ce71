"""How a worker ends when it must not go on: at once, without unwinding, with a status that says why.

Nothing unwinds, so Faust acknowledges nothing: whatever was in work is redelivered to the process that comes next.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import structlog

log = structlog.get_logger()

CRASHED = 1
CANNOT_DELIVER = 70  # neither an output nor a dead letter could be delivered
TOO_MANY_DEAD_LETTERS = 75
STOPPED_IN_WORK = 76  # told to stop, and what was in work did not finish within the grace
STUCK = 77  # messages to do, and none was finished for too long


def abort(code: int, why: str) -> NoReturn:
    """Ends the process with an exit status of this module."""
    log.critical("aborted", code=code, why=why)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
