"""The stage loop and Faust on a real broker: whatever happens to a worker, each upload gets exactly one verdict id."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from services.clients.events import EventReader, EventSender, KafkaConnection
from services.core import topology
from services.core.envelope import Message, decode, encode
from services.core.events import DeadLetter, ImageUploaded, InlineImage, VerdictReached
from services.core.letters import redriven
from services.local.kafka import Kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    kafka = Kafka(tmp_path_factory.mktemp("toy-kafka"))
    kafka.start()
    yield kafka
    kafka.stop()


class Toys:
    """Starts toy workers and looks at what they deliver."""

    def __init__(self, broker: Kafka, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.sender = EventSender(KafkaConnection(broker.bootstrap_servers), timeout_s=10)
        self.processes: list[subprocess.Popen[bytes]] = []

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"worker-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.stream.toy_worker"],
                env={**os.environ, "TOY_KAFKA": self.broker.bootstrap_servers, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    async def upload(self, *orders: str) -> list[str]:
        ids = []
        for order in orders:
            upload = ImageUploaded(
                upload_id=f"{order.partition(':')[0]}-{uuid4().hex[:12]}",
                image=InlineImage(data=b"toy"),
                uploaded_at=datetime.now(UTC),
                filename=order,
            )
            await self.sender.send(encode(upload, source="/test", time=upload.uploaded_at))
            ids.append(upload.upload_id)
        return ids

    async def everything(self, topic: str) -> list[Message]:
        reader = EventReader(KafkaConnection(self.broker.bootstrap_servers))
        return [m async for m in reader.read(topic, from_beginning=True, until_end=True)]

    async def verdict_ids(self, uploads: list[str]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {upload: set() for upload in uploads}
        for message in await self.everything(topology.VERDICTS):
            verdict = decode(message, VerdictReached)
            if verdict.upload_id in found:
                found[verdict.upload_id].add(verdict.event_id())
        return found

    async def letters(self, uploads: list[str]) -> dict[str, list[DeadLetter]]:
        letters = [decode(m, DeadLetter) for m in await self.everything(topology.DEAD_LETTERS) if m.value]
        return {upload: [letter for letter in letters if letter.upload_id == upload] for upload in uploads}

    async def until_judged(self, uploads: list[str]) -> None:
        await until(self._judged, uploads)

    async def _judged(self, uploads: list[str]) -> bool:
        return all(len(ids) == 1 for ids in (await self.verdict_ids(uploads)).values())


async def until(condition, *arguments, within_s: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Waits for the effect; fails when it does not come."""
    async with asyncio.timeout(within_s):
        while not await condition(*arguments):
            await asyncio.sleep(0.2)


@pytest.fixture
async def toys(broker: Kafka, tmp_path: Path) -> AsyncIterator[Toys]:
    toys = Toys(broker, tmp_path)
    await toys.sender.start()
    yield toys
    for process in toys.processes:
        process.terminate()  # a clean end commits, so that the next test starts where this one ended
    for process in toys.processes:
        await asyncio.to_thread(process.wait, 60)
    await toys.sender.stop()


async def test_every_upload_gets_its_verdict_and_poison_and_crashes_become_dead_letters(toys: Toys) -> None:
    toys.worker()
    good = await toys.upload("ok", "ok")
    await toys.sender.send(Message(topology.UPLOADS, b"poison", b"\x00 not json", (("ce_type", b"nonsense"),)))
    crashing = await toys.upload("crash")
    refused = await toys.upload("reject")
    good += await toys.upload("ok", "ok", "ok")
    await toys.until_judged(good)

    async def buried() -> bool:
        letters = await toys.letters(crashing + refused)
        return all(letters.values())

    await until(buried)
    letters = await toys.letters(crashing + refused)
    assert [letter.kind for letter in letters[crashing[0]]] == ["broken"]
    assert letters[crashing[0]][0].attempts == 2
    assert [letter.kind for letter in letters[refused[0]]] == ["rejected"]
    poison = [decode(m, DeadLetter) for m in await toys.everything(topology.DEAD_LETTERS) if m.value]
    undecodable = [letter for letter in poison if letter.kind == "undecodable"]
    assert [letter.source_value for letter in undecodable] == [b"\x00 not json"]
    assert redriven(undecodable[0]).headers == (("ce_type", b"nonsense"),)


async def test_a_worker_killed_in_the_middle_of_its_work_loses_nothing(toys: Toys, tmp_path: Path) -> None:
    first = toys.worker()
    uploads = await toys.upload("ok", "ok", "ok", f"kill:{tmp_path / 'killed'}", "ok", "ok", "ok", "ok")
    assert await asyncio.to_thread(first.wait, 60) == -signal.SIGKILL
    toys.worker()
    await toys.until_judged(uploads)


async def test_while_a_dependency_is_away_messages_wait_and_are_handled_when_it_is_back(
    toys: Toys, tmp_path: Path
) -> None:
    toys.worker()
    marker = tmp_path / "back"
    waiting = await toys.upload(f"away:{marker}", f"away:{marker}")
    ready = await toys.upload(*["ok"] * 30)

    async def begun() -> bool:
        return any("unavailable" in log.read_text() for log in tmp_path.glob("worker-*.log"))

    await until(begun)
    marker.touch()
    await toys.until_judged(waiting + ready)
    assert not any((await toys.letters(waiting)).values())


async def test_what_stays_unavailable_for_too_long_becomes_a_dead_letter_and_the_rest_goes_on(
    toys: Toys, tmp_path: Path
) -> None:
    toys.worker(TOY_RETRY_FOR_S="1")
    marker = tmp_path / "too-late"
    gone = await toys.upload(f"away:{marker}")
    rest = await toys.upload("ok")
    await toys.until_judged(rest)

    async def buried() -> bool:
        return bool((await toys.letters(gone))[gone[0]])

    await until(buried)
    assert (await toys.letters(gone))[gone[0]][0].kind == "unavailable"
    marker.touch()  # should a later test's worker be given it once more


async def test_a_second_worker_that_joins_and_leaves_while_the_first_works_costs_no_verdict(toys: Toys) -> None:
    toys.worker()
    uploads: list[str] = []
    for round_number in range(3):
        uploads += await toys.upload(*["ok"] * 40)
        if round_number == 0:
            await toys.until_judged(uploads[:1])
            second = toys.worker()
        if round_number == 1:
            await toys.until_judged(uploads)
            uploads += await toys.upload(*["ok"] * 40)
            second.terminate()
    await toys.until_judged(uploads)


async def test_a_worker_told_to_stop_finishes_and_commits_what_is_in_work_first(toys: Toys, tmp_path: Path) -> None:
    worker = toys.worker()
    gate = tmp_path / "gate"
    uploads = await toys.upload(f"hold:{gate}")

    async def held() -> bool:
        return Path(f"{gate}.held").exists()

    await until(held)
    worker.terminate()
    gate.touch()
    assert await asyncio.to_thread(worker.wait, 60) == 0
    reader = EventReader(KafkaConnection(toys.broker.bootstrap_servers))
    assert not any((await reader.lag("pentimento-intake", [topology.UPLOADS])).values()), "it left without committing"
    assert all(len(ids) == 1 for ids in (await toys.verdict_ids(uploads)).values())


async def test_a_worker_that_cannot_finish_in_time_acknowledges_nothing(toys: Toys, tmp_path: Path) -> None:
    worker = toys.worker(TOY_GRACE_S="0.5")
    gate = tmp_path / "gate"
    uploads = await toys.upload(f"hold:{gate}")

    async def held() -> bool:
        return Path(f"{gate}.held").exists()

    await until(held)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 76
    gate.touch()
    toys.worker()
    await toys.until_judged(uploads)


async def test_too_many_dead_letters_in_a_row_stop_the_worker_instead_of_emptying_the_topic(toys: Toys) -> None:
    worker = toys.worker(TOY_RUN="3")
    uploads = await toys.upload(*["crash"] * 24)
    assert await asyncio.to_thread(worker.wait, 60) == 75
    patient = toys.worker(TOY_RUN="1000")

    async def buried() -> bool:
        return all((await toys.letters(uploads)).values())

    await until(buried)
    counts = Counter(len({letter.event_id() for letter in found}) for found in (await toys.letters(uploads)).values())
    assert set(counts) == {1}
    patient.terminate()
