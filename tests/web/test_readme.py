"""The producer that the README shows, run as it stands, against a real broker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from uuid import uuid4

from services.core import topology
from services.core.envelope import decode
from services.core.events import ImageUploaded, ObjectImage
from services.local.kafka import Kafka
from services.web.parts import Parts

README = Path(__file__).parents[2] / "README.md"


async def test_the_producer_in_the_readme_sends_an_upload_that_is_understood(kafka: Kafka, parts: Parts) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    program, runs, _ = block.partition("asyncio.run(")
    assert runs
    assert '"127.0.0.1:9092"' in program
    names: dict[str, Any] = {}
    exec(program.replace("127.0.0.1:9092", kafka.bootstrap_servers), names)
    upload_id = f"readme-{uuid4()}"
    await names["announce"](upload_id, "uploads/photo-81.jpg")
    messages = [message async for message in parts.reader.read(topology.UPLOADS, until_end=True)]
    (message,) = [message for message in messages if message.key == upload_id.encode()]
    event = decode(message, ImageUploaded)
    assert event.image == ObjectImage(object_key="uploads/photo-81.jpg")
    assert message.header("ce_source") == b"//uploads.example.com"
