"""`pentimento originals reindex --words`: visual words for originals that were registered without them.

In: registered originals that have no words yet. Out: their words. Nothing is noted on the way: what is missing is
looked up anew, so that a run that was stopped goes on where it was. What waits to be prepared by `intake` is kept from
it while it is in work here, and then waits no longer: local features are made when somebody asks for them. Only where
words of uploads are kept does it go on waiting, as it is `intake` that seeks them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from services.cli.connections import opened_database
from services.cli.console import complain, fail, note, progress, write_lines
from services.clients.candidates import Picture
from services.clients.objects import Objects
from services.clients.preparation import Unprepared
from services.clients.word_packing import WordPacking
from services.clients.words import WordIndex
from services.core.errors import Rejected
from services.core.intake.words import STORED, Vocabulary, words_of
from services.opening import open_objects, open_vocabulary
from services.settings import Settings
from services.stream.pool import DecodePool

PAGE_EACH = 8  # pictures of a page for each worker


@dataclass(frozen=True, slots=True)
class Worded:
    """What a run did: originals that now have words, and those that could not be looked at, with the reason."""

    done: int
    failed: tuple[tuple[Picture, str], ...]


def reindex_words(settings: Settings, tenant: str | None, workers: int, as_json: bool) -> None:
    """The command. Exit status 1 where originals could not be looked at."""
    with progress() as bar:
        task = bar.add_task("words", total=None)
        done = asyncio.run(
            worded(
                settings,
                tenant,
                workers,
                total=lambda originals: bar.update(task, total=originals),
                settled=lambda: bar.advance(task),
            )
        )
    for picture, why in done.failed:
        complain(f"original {picture.original_id} of tenant {picture.tenant} has no words: {why}")
    if as_json:
        write_lines([{"worded": done.done, "failed": len(done.failed)}])
    else:
        note(f"{done.done} originals were given their visual words")
    if done.failed:
        fail(f"{len(done.failed)} originals could not be looked at: remove them (`pentimento originals remove`)")


@dataclass(frozen=True, slots=True)
class _Run:
    index: WordIndex
    unprepared: Unprepared
    objects: Objects
    pool: DecodePool
    vocabulary: Vocabulary
    settings: Settings

    async def one(self, picture: Picture) -> str | None:
        """Gives a picture its words; returns why it has none."""
        limits = self.settings.intake
        try:
            data = await self.objects.get(picture.image.object_key, limits.max_bytes)
            words = await self.pool.run(words_of, data, self.vocabulary, most=STORED, max_pixels=limits.max_pixels)
        except Rejected as why:
            return f"{why.message} ({why.code})"
        await self.index.add(picture, words)
        if not self.settings.words.register_uploads:
            await self.unprepared.remove([picture])
        return None


async def worded(
    settings: Settings, tenant: str | None, workers: int, *, total: Callable[[int], None], settled: Callable[[], None]
) -> Worded:
    """Gives words to all originals that have none. `total` is told how many there are, `settled` of each one done.

    Raises Unavailable; what was done until then stays.
    """
    vocabulary, objects = open_vocabulary(), open_objects(settings.objects)
    pool = DecodePool(workers=workers, timeout_s=settings.intake.decode_timeout_s)
    try:
        async with opened_database(settings) as database:
            index, unprepared = WordIndex(database, vocabulary.name), Unprepared(database)
            run = _Run(index, unprepared, objects, pool, vocabulary, settings)
            total(await run.index.missing_count(tenant))
            done = await _all(run, tenant, workers, settled)
            packing = WordPacking(database)
            if settings.words.pack and await packing.due():
                await packing.pack()
            return done
    finally:
        pool.close()
        objects.close()


async def _all(run: _Run, tenant: str | None, workers: int, settled: Callable[[], None]) -> Worded:
    done, failed = 0, list[tuple[Picture, str]]()
    while page := await run.index.missing(tenant, limit=workers * PAGE_EACH, but=[each for each, _ in failed]):
        await run.unprepared.hold(page, for_s=run.settings.intake.prepare_lease_s)
        for picture, why in zip(page, await asyncio.gather(*(run.one(each) for each in page)), strict=True):
            settled()
            if why is None:
                done += 1
            else:
                failed.append((picture, why))
    return Worded(done, tuple(failed))
