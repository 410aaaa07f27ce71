"""A backup that is taken while uploads flow, and a restore after everything was lost, as docs/operations.md has them.

The commands are the documented ones, run as processes; broker, database, model server and workers are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageDraw

from services.clients.cases import Verdicts
from services.clients.database import Database
from services.clients.events import EventReader, KafkaConnection
from services.clients.ledger import Ledger
from services.clients.objects import Objects
from services.clients.samples import Samples
from services.core import topology
from services.core.envelope import Message
from services.core.events import VerdictReached
from services.core.learn.samples import Labelled
from services.core.pixels import read_mask_png
from services.local.postgres import programs_folder
from tests.chaos.world import World, jpeg, picture, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MOST_BYTES = 10_000_000
GROUPS = ("intake", "judge", "learn")  # the order in which they are started again


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A world of its own, since this one is destroyed."""
    world = World(tmp_path_factory.mktemp("world"))
    await world.start()
    world.begin(*GROUPS)
    yield world
    await world.stop()


def edited(seed: int, *, place: int) -> bytes:
    """The picture with a red disc: another one at each place."""
    forged = picture(seed).copy()
    ImageDraw.Draw(forged).ellipse((place, 60, place + 60, 120), fill=(250, 20, 20))
    return jpeg(forged)


class Operator:
    """Whoever does what the page about operations says."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self.folder = folder
        self.store = world.folder / "objects"

    async def backup(self) -> None:
        """Offsets, then the database, then the object store."""
        await self.pentimento("offsets", "save", into="offsets.jsonl")
        await self._run("pg_dump", "--format=custom", f"--file={self.folder}/pentimento.dump", self._world.postgres.dsn)
        await asyncio.to_thread(shutil.copytree, self.store, self.folder / "objects")

    async def lose_everything(self) -> None:
        """Database and object store, at once, without a word to anybody."""
        postgres = self._world.postgres
        await asyncio.to_thread(postgres.kill)
        for group in GROUPS:
            self._world.kill(group)
        shutil.rmtree(postgres.data_dir / "cluster")
        shutil.rmtree(self.store)

    async def restore(self) -> None:
        """A new server, the copy into it, the schema of this release, the store; erasures; offsets."""
        postgres = self._world.postgres
        await asyncio.to_thread(postgres.start)
        strict = ("--no-owner", "--no-comments", "--exit-on-error", "--single-transaction")
        await self._run("pg_restore", *strict, f"--dbname={postgres.dsn}", f"{self.folder}/pentimento.dump")
        await self.pentimento("migrate")
        await asyncio.to_thread(shutil.copytree, self.folder / "objects", self.store)
        await self.pentimento("erasures", "again", f"{self.folder}/erasures.jsonl", "--json", into="again.jsonl")
        await self.pentimento("offsets", "restore", f"{self.folder}/offsets.jsonl")

    async def start_again(self) -> None:
        """One group after the other, each once the one before it has caught up."""
        reader = EventReader(KafkaConnection(self._world.kafka.bootstrap_servers))
        for name in GROUPS:
            group = topology.GROUPS[name]
            self._world.begin(name)

            async def caught_up(group: topology.Group = group) -> bool:
                return not any((await reader.lag(group.consumer_group, group.reads)).values())

            await until(caught_up)
            await self.pentimento("offsets", "lag", "--json", into="lag.jsonl")
            lag = {each["group"]: each["messages"] for each in self.lines("lag.jsonl")}
            assert lag[name] == 0

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What a command has written into a file."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    async def pentimento(self, *words: str, into: str | None = None) -> None:
        """A command of ours, its output in a file beside the copies."""
        world = self._world
        environment = {
            **os.environ,
            "PENTIMENTO_DATA_DIR": str(world.folder / "nothing-here"),
            "PENTIMENTO_KAFKA__BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
            "PENTIMENTO_POSTGRES__DSN": world.postgres.dsn,
            "PENTIMENTO_OBJECTS__URL": self.store.as_uri(),
        }
        command = [sys.executable, "-c", "from services.cli import main; main()", *words]
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        if into is not None:
            (self.folder / into).write_bytes(done.stdout)

    async def _run(self, program: str, *words: str) -> None:
        command = [str(programs_folder() / program), *words]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()


async def add_sample(database: Database, upload_id: str) -> Labelled:
    """What the learning loop keeps of a verdict: its picture and mask."""
    verdict = await Ledger(database).latest("default", upload_id)
    assert verdict is not None and verdict.image is not None and verdict.mask is not None
    labelled = Labelled(
        "default", verdict.image, verdict.mask.object_key, None, "drawn", verdict.mask.area, 0.9, "moderator", "hand/1"
    )  # fmt: skip
    await Samples(database).add(labelled)
    return labelled


async def sent_again(world: World, uploads: set[str]) -> None:
    """A platform that sends once more what has no verdict."""
    for message in await world.everything(topology.UPLOADS):
        if (message.key or b"").decode() in uploads:
            await world.sender.send(Message(message.topic, message.key, message.value, message.headers))


async def held(database: Database) -> dict[str, VerdictReached]:
    """The ledger, which has one verdict of each upload or the assertion fails."""
    async with database.connection() as connection:
        rows = await (await connection.execute("select upload_id, event from ledger")).fetchall()
    found = {row["upload_id"]: VerdictReached.model_validate_json(row["event"]) for row in rows}
    assert len(found) == len(rows)
    return found


async def test_what_was_backed_up_while_uploads_flowed_is_whole_again_with_one_verdict_each(
    world: World, tmp_path: Path
) -> None:
    operator = Operator(world, tmp_path)
    await world.original(jpeg(picture(1), 95), "the-original")
    await until(world.idle)
    before = await world.upload([edited(1, place=60), edited(1, place=150), jpeg(picture(2)), b"no picture"])
    await world.verdicts(before)
    database = await Database.open(world.postgres.dsn, timeout_s=20)
    labelled = await add_sample(database, before[0])
    erased = (await held(database))[before[1]].image
    assert erased is not None

    during = await world.upload([edited(1, place=10 + 3 * number) for number in range(8)])
    await world.began("judge", during[0])  # the others wait in intake, in judge, or on the topics
    await operator.backup()
    await world.verdicts(during)
    after = await world.upload([edited(1, place=100), jpeg(picture(3))])
    first_life = {verdict.upload_id: verdict for verdict in await world.verdicts([*before, *during, *after])}
    await operator.pentimento("erase", "--upload", before[1], "--yes")
    await operator.pentimento("erasures", "list", into="erasures.jsonl")
    await database.close()

    await operator.lose_everything()
    await operator.restore()
    database = await Database.open(world.postgres.dsn, timeout_s=20)
    missing = {*before, *during, *after} - set(await held(database))
    assert set(after) <= missing  # what the copy could not have
    await sent_again(world, missing)
    await operator.start_again()
    await until(world.idle)

    second_life = await held(database)
    assert set(second_life) == {*before, *during, *after}
    for upload_id, messages in (await world.deliveries(list(second_life))).items():
        assert len({message.header("ce_id") for message in messages}) == 1
        assert second_life[upload_id].decision is first_life[upload_id].decision
        assert await Verdicts(database).get("default", upload_id) == [second_life[upload_id]]
    objects = Objects(operator.store.as_uri())
    masks = [verdict.mask.object_key for verdict in second_life.values() if verdict.mask is not None]
    assert len(masks) >= 8
    for key in [*masks, labelled.mask_key or ""]:
        assert read_mask_png(await objects.get(key, MOST_BYTES))[0].size > 0
    for verdict in second_life.values():
        assert verdict.image is None or await objects.exists(verdict.image.object_key)
    (sample,) = await Samples(database).of(["default"])
    assert sample.of == labelled
    assert await objects.exists(sample.of.image.object_key)

    (again,) = operator.lines("again.jsonl")
    assert (again["pictures"], again["left"]) == (1, [])
    assert second_life[before[1]].image is None
    assert not await objects.exists(erased.object_key)
    objects.close()
    await database.close()
