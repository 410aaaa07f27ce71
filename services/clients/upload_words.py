"""Visual words of uploads: what an original that comes later shares with them.

In: the words of uploads that nothing covered. Out: contents that share words with an original. They lie in a space of
their own, beside the one that originals are found in: no upload is ever found as an original by them. They go with the
upload, as an original's go with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.clients.candidates import Picture
from services.clients.database import Database
from services.clients.words import WordIndex
from services.core.intake.words import Shared, VisualWords

UPLOADS: Final = "/uploads"
"""How the vocabulary's name ends in the name of such a space."""


class UploadWords:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, vocabulary: str) -> None:
        self._database = database
        self._index = WordIndex(database, vocabulary + UPLOADS)

    async def keep(self, tenant: str, sha256: str, words: VisualWords) -> None:
        """Keep an upload's words. Repeating it changes nothing, and neither does an upload that is not registered, or
        not any more."""
        await self._index.add_content(tenant, sha256, words, trusted=False)

    async def shared(self, tenant: str, words: VisualWords) -> Shared:
        """What an original shares with the tenant's uploads; see `WordIndex.shared`."""
        return await self._index.shared(tenant, words)

    async def contents(self, original: Picture, numbers: Sequence[int]) -> list[str]:
        """The SHA-256 of the uploads of these numbers, in their order. None of them where the original is on the stop
        list, or no longer registered: they would not find it."""
        query = {"tenant": original.tenant, "sha256": original.image.sha256, "numbers": list(numbers)}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_CONTENTS, query)).fetchall()
        return [row["sha256"] for row in rows]


_CONTENTS = """
select candidate.sha256
from unnest(%(numbers)s::bigint[]) with ordinality as asked (seq, place)
join candidate using (seq)
where exists (
    select 1 from candidate as original
    where original.tenant = %(tenant)s and original.sha256 = %(sha256)s and original.trusted
        and original.stopped_by is null
)
order by asked.place
"""
