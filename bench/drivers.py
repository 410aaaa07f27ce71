"""The two ways to a mask that are compared: through the whole stream, and straight to the model server.

In: image files. Out: seconds, and from the stream the verdicts. Both ways keep the same number of images on their
way at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from services.cli.connections import Door, messages
from services.cli.sources import FileSource
from services.cli.uploading import upload
from services.clients.models import Models
from services.core import topology
from services.core.envelope import decode
from services.core.events import VerdictReached
from services.settings import Settings

T = TypeVar("T")

TENANT = "bench"
VERDICT_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verdict, and the seconds from handing over the file to holding it."""

    verdict: VerdictReached
    seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """Images that were on their way together: how long it took for all and for each."""

    seconds: float
    each: tuple[float, ...]
    arrivals: tuple[Arrival, ...] = ()

    @property
    def rate(self) -> float:
        """Images a second."""
        return len(self.each) / self.seconds


def joined(rounds: Sequence[Round]) -> Round:
    """Rounds that came one after the other, as one."""
    return Round(
        sum(each.seconds for each in rounds),
        tuple(seconds for each in rounds for seconds in each.each),
        tuple(arrival for each in rounds for arrival in each.arrivals),
    )


class Stream:
    """Uploads images as a platform would and listens for their verdicts."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._waiting: dict[str, asyncio.Future[VerdictReached]] = {}
        self._seen: Counter[str] = Counter()

    async def one(self, path: Path) -> Arrival:
        """An image's verdict. Raises TimeoutError where none comes."""
        started = perf_counter()
        event = await upload(self._door, FileSource(path, path.name), tenant=TENANT)
        verdict = await asyncio.wait_for(self._expected(event.upload_id), VERDICT_WITHIN_S)
        return Arrival(verdict, perf_counter() - started)

    async def together(self, paths: Sequence[Path], at_once: int) -> Round:
        """All images, `at_once` of them on their way."""
        started = perf_counter()
        arrivals = await _each(paths, self.one, at_once)
        return Round(perf_counter() - started, tuple(a.seconds for a in arrivals), tuple(arrivals))

    @property
    def repeated(self) -> int:
        """Verdicts that came more than once."""
        return sum(1 for times in self._seen.values() if times > 1)

    async def listen(self, settings: Settings) -> None:
        """Takes verdicts from the topic until cancelled."""
        arriving = messages(settings, topology.VERDICTS, from_beginning=True)
        async with aclosing(arriving):
            async for message in arriving:
                verdict = decode(message, VerdictReached)
                self._seen[verdict.event_id()] += 1
                expected = self._expected(verdict.upload_id)
                if not expected.done():
                    expected.set_result(verdict)

    def _expected(self, upload_id: str) -> asyncio.Future[VerdictReached]:
        """The verdict may be here before the one who waits for it."""
        return self._waiting.setdefault(upload_id, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def listening(door: Door, settings: Settings) -> AsyncIterator[Stream]:
    """A `Stream` that hears every verdict while the block runs. An error of the listener ends the block."""
    stream = Stream(door)
    async with asyncio.TaskGroup() as tasks:
        ear = tasks.create_task(stream.listen(settings))
        yield stream
        ear.cancel()


async def straight(models: Models, paths: Sequence[Path], at_once: int) -> Round:
    """The same images posted to the single-image model, `at_once` at a time."""

    async def one(path: Path) -> float:
        started = perf_counter()
        await models.unconstrained(await asyncio.to_thread(path.read_bytes))
        return perf_counter() - started

    started = perf_counter()
    each = await _each(paths, one, at_once)
    return Round(perf_counter() - started, tuple(each))


async def _each(paths: Sequence[Path], work: Callable[[Path], Awaitable[T]], at_once: int) -> list[T]:
    room = asyncio.Semaphore(at_once)

    async def one(path: Path) -> T:
        async with room:
            return await work(path)

    return await asyncio.gather(*(one(path) for path in paths))
