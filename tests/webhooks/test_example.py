"""The receiver in docs/webhooks.md, run as it stands there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

from services.clients.database import Database
from services.core.events import VerdictReached
from services.core.webhooks import headers
from services.local.ports import free_port
from tests.webhooks.conftest import Office
from tests.webhooks.receiver import Receiver

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


async def test_the_receiver_of_the_documents_verifies_and_remembers(hooks_database: Database, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "receiver.py"
    script.write_text(code)
    port = free_port()
    office = Office(hooks_database, Receiver(port=port), f"tenant-{uuid4().hex[:12]}")
    webhook, secret = await office.register()
    environment = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    running = await asyncio.create_subprocess_exec(sys.executable, script, stdout=PIPE, stderr=PIPE, env=environment)
    try:
        judged = await office.judge("u-1")
        async with office.sending():
            assert (await office.settled(webhook, judged)).status == 204
        assert running.stdout is not None
        assert (await running.stdout.readline()).decode().split() == [VerdictReached.ce_type, "u-1"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            body = b'{"type": "forged", "subject": "u-2"}'
            forged = headers("id-2", body, secrets=["whsec_" + "QUJD" * 11], at=datetime.now(UTC))
            assert (await client.post("/", content=body, headers=forged)).status_code == 401
            old = headers("id-3", body, secrets=[secret], at=datetime(2020, 1, 1, tzinfo=UTC))
            assert (await client.post("/", content=body, headers=old)).status_code == 401
            repeated = b'{"type": "again", "subject": "u-1"}'
            again = headers(judged.event_id(), repeated, secrets=[secret], at=datetime.now(UTC))
            assert (await client.post("/", content=repeated, headers=again)).status_code == 204
    finally:
        running.kill()
        output, _ = await running.communicate()
        await office.webhooks.remove(webhook)
    assert output == b""  # nothing but the first line was taken for new
