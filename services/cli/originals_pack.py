"""`pentimento originals pack`: postings of visual words into lists, now.

In: words of originals that stand alone. Out: the same, packed. `intake` does this by itself once there are enough of
them; the command is for whoever has just registered a library, or wants the disk back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.cli.connections import opened_database
from services.cli.console import DataOption, JsonOption, fail, note, progress, settings_of, write_lines
from services.clients.word_packing import Packing, WordPacking
from services.core.intake.words import STORED
from services.settings import Settings


def pack(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Pack the visual words of originals: a tenth of the disk, and faster to search.

    The worker `intake` does it by itself, once a thousand originals and a hundredth of all are not packed. Stopped, the
    same command goes on. Lookup goes on meanwhile.

    Example: pentimento originals pack
    """
    with progress() as bar:
        task = bar.add_task("packing", total=None)
        done = asyncio.run(
            _packed(
                settings_of(data),
                total=lambda pictures: bar.update(task, total=pictures * STORED),
                moved=lambda postings: bar.advance(task, postings),
            )
        )
    if done is None:
        fail("another process is packing: `pentimento originals pack` again when it is done")
    if as_json:
        write_lines([{"postings": done.postings, "originals": done.pictures}])
    else:
        note(f"{done.postings:,} words of {done.pictures:,} originals packed")


async def _packed(settings: Settings, *, total: Callable[[int], None], moved: Callable[[int], None]) -> Packing | None:
    """Raises Unavailable. None where another process packs."""
    async with opened_database(settings) as database:
        packing = WordPacking(database)
        total(await packing.unpacked())
        return await packing.pack(moved=moved)
