"""The whole stream for tests that break it: real components, real worker processes, and a look at every verdict.

In: a temporary folder. Out: `World`, whose parts can be killed and started again one by one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from services.clients.events import EventReader, EventSender, KafkaConnection
from services.core import topology
from services.core.envelope import Message, decode, encode
from services.core.events import Event, ImageUploaded, InlineImage, OriginalRegistered, VerdictReached
from services.local.kafka import Kafka
from services.local.postgres import Postgres
from services.local.torchserve import TorchServe

ENOUGH_S = 150.0


def picture(seed: int, *, size: tuple[int, int] = (256, 192), quality: int = 90) -> Image.Image:
    """A picture like no other: smooth colours, shapes and a little grain, so that features can be found in it."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(image).astype(np.int16)
    for _ in range(40):
        x, y = int(random.integers(0, size[0] - 20)), int(random.integers(0, size[1] - 20))
        width, height = (int(v) for v in random.integers(6, 40, 2))
        pixels[y : y + height, x : x + width] = random.integers(0, 255, 3)
    pixels += random.integers(-6, 7, pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class World:
    """Kafka, PostgreSQL, TorchServe, an object folder, and worker processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = Kafka(folder / "kafka")
        self.postgres = Postgres(folder / "postgres")
        self.torchserve = TorchServe(folder / "torchserve")
        self.workers: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)
        self.sender: EventSender
        self._logs = 0

    async def start(self) -> None:
        for component in (self.kafka, self.postgres, self.torchserve):
            await asyncio.to_thread(component.start)
        self.sender = EventSender(self._connection(), timeout_s=20)
        await self.sender.start()

    async def stop(self) -> None:
        for group in list(self.workers):
            await self.end(group)
        await self.sender.stop()
        for component in (self.torchserve, self.postgres, self.kafka):
            await asyncio.to_thread(component.stop)

    def _connection(self) -> KafkaConnection:
        return KafkaConnection(self.kafka.bootstrap_servers)

    # -- workers --------------------------------------------------------------------------------------------------

    def begin(self, *groups: str) -> None:
        """Starts one more worker of each group."""
        environment = {
            **os.environ,
            "PENTIMENTO_DATA_DIR": str(self.folder / "nothing-here"),
            "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "PENTIMENTO_KAFKA__SESSION_TIMEOUT_S": "6",
            "PENTIMENTO_POSTGRES__DSN": self.postgres.dsn,
            "PENTIMENTO_POSTGRES__TIMEOUT_S": "5",
            "PENTIMENTO_OBJECTS__URL": (self.folder / "objects").as_uri(),
            "PENTIMENTO_MODELS__URL": self.torchserve.url,
            "PENTIMENTO_MODELS__KEY_FILE": str(self.torchserve.key_file),
            "PENTIMENTO_MODELS__BREAKER_OPEN_S": "1",
            "PENTIMENTO_STAGE__RETRY_LONGEST_S": "2",
            "PENTIMENTO_WORDS__REGISTER_UPLOADS": "true",
            "PENTIMENTO_LATE__UPLOADS_PER_S": "5",
            "PENTIMENTO_LATE__LEASE_S": "3",
            "PENTIMENTO_REJUDGE__LEASE_S": "3",
            "PENTIMENTO_INTAKE__INDEX_STALE_S": "2",
            "PENTIMENTO_INTAKE__PREPARE_LEASE_S": "3",
            "PENTIMENTO_INTAKE__DECODE_TIMEOUT_S": "120",  # of a busy machine: what is tested is not its speed
            "PENTIMENTO_TELEMETRY__TRACE_FILE": str(self.folder / "spans.jsonl"),
        }
        for group in groups:
            self._logs += 1
            with (self.folder / f"{group}-{self._logs}.log").open("wb") as log:
                command = [sys.executable, "-m", "services.worker", group]
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            self.workers[group].append(process)

    def kill(self, group: str) -> None:
        """kill -9 of every worker of a group."""
        for process in self.workers.pop(group, []):
            process.kill()
            process.wait()

    async def end(self, group: str) -> None:
        """A clean end of every worker of a group."""
        for process in self.workers.pop(group, []):
            process.terminate()
            await asyncio.to_thread(process.wait, 60)

    # -- what goes in and comes out -------------------------------------------------------------------------------

    async def send(self, event: Event) -> None:
        await self.sender.send(encode(event, source="/test", time=datetime.now(UTC)))

    async def upload(self, images: Sequence[bytes], *, tenant: str = "default") -> list[str]:
        ids = []
        for data in images:
            upload_id = f"upload-{uuid4().hex[:12]}"
            image = InlineImage(data=data)
            await self.send(
                ImageUploaded(upload_id=upload_id, tenant=tenant, image=image, uploaded_at=datetime.now(UTC))
            )
            ids.append(upload_id)
        return ids

    async def original(self, data: bytes, original_id: str, *, tenant: str = "default") -> None:
        image, now = InlineImage(data=data), datetime.now(UTC)
        await self.send(OriginalRegistered(original_id=original_id, tenant=tenant, image=image, registered_at=now))

    async def everything(self, topic: str) -> list[Message]:
        reader = EventReader(self._connection())
        return [message async for message in reader.read(topic, from_beginning=True, until_end=True)]

    async def deliveries(self, uploads: Sequence[str]) -> dict[str, list[Message]]:
        """Every delivery of a verdict of these uploads."""
        found: dict[str, list[Message]] = {upload: [] for upload in uploads}
        for message in await self.everything(topology.VERDICTS):
            key = (message.key or b"").decode()
            if key in found:
                found[key].append(message)
        return found

    async def verdicts(self, uploads: Sequence[str]) -> list[VerdictReached]:
        """Waits until each upload has its verdict, then until the stream is idle, and holds it to its promise:
        exactly one verdict id each, and one content under it, however often it was delivered.
        """

        async def all_judged() -> bool:
            return all((await self.deliveries(uploads)).values())

        await until(all_judged)
        await until(self.idle)
        verdicts = []
        for upload, messages in (await self.deliveries(uploads)).items():
            ids = {message.header("ce_id") for message in messages}
            contents = {message.value for message in messages}
            assert len(ids) == 1, f"{upload} has {len(ids)} verdict ids"
            assert len(contents) == 1, f"{upload} has contradicting verdicts"
            verdicts.append(decode(messages[0], VerdictReached))
        return verdicts

    async def revisions(self, upload: str) -> list[VerdictReached]:
        """An upload's verdicts by revision, and holds each to the promise: one content, however often delivered."""
        contents: dict[int, set[bytes]] = defaultdict(set)
        for message in (await self.deliveries([upload]))[upload]:
            contents[decode(message, VerdictReached).revision].add(message.value or b"")
        assert all(len(values) == 1 for values in contents.values()), f"{upload} has contradicting verdicts"
        return [VerdictReached.model_validate_json(*contents[revision]) for revision in sorted(contents)]

    def health_of(self, group: str) -> str:
        """The address of the health endpoint of a group's newest worker that has one."""
        lines = [line for log in self.folder.glob(f"{group}-*.log") for line in log.read_text().splitlines()]
        started = [json.loads(line) for line in lines if '"event": "started"' in line and '"port"' in line]
        newest = max(started, key=lambda line: str(line["timestamp"]))
        return f"http://127.0.0.1:{newest['port']}"

    async def idle(self) -> bool:
        """Whether every group has committed all that it reads."""
        reader = EventReader(self._connection())
        for group in topology.GROUPS.values():
            if any((await reader.lag(group.consumer_group, group.reads)).values()):
                return False
        return True

    async def began(self, group: str, upload_id: str | None = None) -> None:
        """Waits until a worker of the group has handled something (of that upload)."""

        async def handled() -> bool:
            logs = "".join(log.read_text() for log in self.folder.glob(f"{group}-*.log"))
            return any('"handled"' in line and (upload_id or "") in line for line in logs.splitlines())

        await until(handled)


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float = ENOUGH_S) -> None:
    """Waits for the effect; fails when it does not come."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.3)
