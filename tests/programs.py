"""Our programs as processes of their own, with settings that a test gives them and no others."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


@asynccontextmanager
async def program(module: str, data: Path, **settings: str) -> AsyncIterator[Process]:
    """`python -m MODULE`, killed in the end if it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENTIMENTO_")}
    given = {f"PENTIMENTO_{name}": value for name, value in settings.items()}
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdout=PIPE, stderr=PIPE,
        env={**clean, "PENTIMENTO_DATA_DIR": str(data), **given},
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def logged(running: Process, event: str) -> dict[str, Any]:
    """The first log line with this event."""
    assert running.stdout is not None
    async for line in running.stdout:
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == event:
            return entry
    raise AssertionError(f"the process ended without logging {event!r}")
