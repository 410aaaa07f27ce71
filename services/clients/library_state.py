"""What the index of originals holds, told cheaply: what an overview shows, not what an operator counts.

In: tenants. Out: counts by tenant and source, stop lists, visual words and embedders. Embedders' vectors are not
counted, which takes seconds for millions: `pentimento originals embedders` does.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from services.clients.database import Database
from services.clients.upload_words import UPLOADS


@dataclass(frozen=True, slots=True)
class Source:
    """Trusted originals of a source: how many, and when the newest was registered."""

    tenant: str
    source: str
    originals: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Stopped:
    """Entries of a tenant's stop list that are not lifted, by their reason, and the pictures under them."""

    tenant: str
    reason: str
    entries: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Words:
    """How many of a tenant's pictures have visual words of a vocabulary."""

    tenant: str
    vocabulary: str
    pictures: int


@dataclass(frozen=True, slots=True)
class EmbedderFacts:
    """An embedder by name: the length of its vectors, and whether it is `building`, `active` or `retired`."""

    name: str
    dimensions: int
    state: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class LibraryState:
    """All of it. `earlier_uploads` counts uploads that are candidates for later ones, of all these tenants."""

    sources: tuple[Source, ...]
    earlier_uploads: int
    stopped: tuple[Stopped, ...]
    words: tuple[Words, ...]
    embedders: tuple[EmbedderFacts, ...]

    @property
    def originals(self) -> int:
        """Of all sources together."""
        return sum(source.originals for source in self.sources)


class Library:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self, tenants: Collection[str] | None = None) -> LibraryState:
        """What there is now; `tenants` None: of all. A second or so for a million originals."""
        query = {"tenants": None if tenants is None else list(tenants)}
        async with self._database.connection() as connection:
            sources = await (await connection.execute(_SOURCES, query)).fetchall()
            uploads = await (await connection.execute(_UPLOADS, query)).fetchone()
            stopped = await (await connection.execute(_STOPPED, query)).fetchall()
            words = await (await connection.execute(_WORDS, query)).fetchall()
            embedders = await (await connection.execute(_EMBEDDERS)).fetchall()
        return LibraryState(
            tuple(Source(**row) for row in sources),
            int(uploads["uploads"]) if uploads else 0,
            tuple(Stopped(**row) for row in stopped),
            tuple(Words(**row) for row in words),
            tuple(EmbedderFacts(**row) for row in embedders),
        )

    async def registered(self, tenant: str, original_id: str) -> bool:
        """Whether a trusted original of this id can be found."""
        query = {"tenant": tenant, "original_id": original_id}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_REGISTERED, query)).fetchone()
        return row is not None


_OF_TENANTS = "(%(tenants)s::text[] is null or {table}tenant = any(%(tenants)s::text[]))"
_SOURCES = f"""
select tenant, source, count(*) as originals, max(registered_at) as newest from candidate
where trusted and {_OF_TENANTS.format(table="")} group by tenant, source order by tenant, source
"""
_UPLOADS = f"select count(*) as uploads from candidate where not trusted and {_OF_TENANTS.format(table='')}"
_STOPPED = f"""
select stop_entry.tenant, reason, count(distinct stop_entry.id) as entries, count(candidate.seq) as pictures
from stop_entry left join candidate on candidate.stopped_by = stop_entry.id
where not lifted and {_OF_TENANTS.format(table="stop_entry.")} group by 1, 2 order by 1, 2
"""
_WORDS = f"""
select tenant, vocabulary, count(worded.seq) as pictures
from word_space left join worded on worded.space = word_space.number
where {_OF_TENANTS.format(table="")} and right(vocabulary, length('{UPLOADS}')) <> '{UPLOADS}'
group by 1, 2 order by 1, 2
"""
_EMBEDDERS = "select name, dimensions, state, created_at from embedder order by created_at desc"
_REGISTERED = """
select 1 from candidate where tenant = %(tenant)s and original_id = %(original_id)s and trusted limit 1
"""
