"""The index of visual words: which registered pictures share words with an upload.

In: pictures with their words. Out: what an upload shares with registered pictures, and those pictures. Which of them
agree on where the words lie is for `core.intake.words`; this only finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.clients.candidates import Picture, picture_of
from services.clients.database import Connection, Database
from services.core.intake.word_counts import WordCounts, affordable
from services.core.intake.words import STORED, Shared, VisualWords

MOST_OF_A_WORD: Final = 2000
"""Pictures that are read of one word. What so many share says little, and a search must stay bounded."""
BUDGET: Final = 250_000
"""Postings that one search reads, about: all that an upload shares with 10,000 originals. Of a larger index the rarest
words are read that together have so many."""
FEW: Final = 5_000_000  # postings of an index of which every word is read
SAMPLED: Final = 1_000_000  # postings that are counted to know which words are rare
COUNTED_FOR_S: Final = 3600.0  # until they are counted again

_KEY_BITS: Final = 32  # of a key that the word has; the space is above
_HIT = np.dtype([("key", ">i8"), ("seq", ">i8"), ("feature", ">i4"), ("place", ">i4")])
_COUNT = np.dtype([("key", ">i8"), ("count", ">i8")])
_SIGN: Final = 2**31  # places are unsigned here and signed in the database


class WordIndex:
    """Registered pictures, searched by visual words. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, vocabulary: str, *, few: int = FEW, budget: int = BUDGET) -> None:
        self._database = database
        self._few = few
        self._budget = budget
        self._vocabulary = vocabulary
        self._spaces: dict[str, int] = {}
        self._counts: dict[int, tuple[float, WordCounts | None]] = {}

    async def add(self, picture: Picture, words: VisualWords) -> None:
        """Make a registered picture findable by its strongest words. Repeating it changes nothing, and neither does a
        picture that is not registered any more."""
        space = await self._space(picture.tenant)
        query = {
            "tenant": picture.tenant,
            "sha256": picture.image.sha256,
            "trusted": picture.trusted,
            "space": space,
            "keys": _keys(space, words.words[:STORED, :1]).ravel().tolist(),
            "places": (words.places[:STORED] - _SIGN).tolist(),
        }
        async with self._database.connection() as connection:
            await connection.execute(_ADD, query)

    async def shared(self, tenant: str, words: VisualWords) -> Shared:
        """What the upload shares with the tenant's pictures; words that few of them have weigh more, and of a large
        index only those are read."""
        space = await self._space(tenant)
        counts = await self._counted(space)
        features = np.broadcast_to(np.arange(len(words.words))[:, None], words.words.shape)
        if counts is None:
            sought = np.ones(words.words.shape, np.bool_)
        else:
            sought = affordable(counts.expected(words.words, most=MOST_OF_A_WORD), self._budget)
        query = {
            "keys": _keys(space, words.words[sought]).tolist(),
            "features": features[sought].tolist(),
            "most": MOST_OF_A_WORD,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(_SHARED, query)).fetchone()
        hits = np.frombuffer((row and row["hits"]) or b"", _HIT)
        return Shared(
            hits["seq"].astype(np.int64),
            hits["feature"].astype(np.int64),
            hits["place"].astype(np.int64) + _SIGN,
            _weights(hits["key"], hits["seq"]),
        )

    async def empty(self, tenant: str) -> bool:
        """Whether no picture of the tenant has words, so that there is nothing to seek."""
        query = {"space": await self._space(tenant)}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_ANY, query)).fetchone()
        return row is None

    async def pictures(self, numbers: Sequence[int]) -> list[Picture]:
        """The pictures of these numbers, in their order, without those on the stop list or no longer registered."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_PICTURES, {"numbers": list(numbers)})).fetchall()
        return [picture_of(row) for row in rows]

    async def missing(self, tenant: str | None, *, limit: int, but: Iterable[Picture] = ()) -> list[Picture]:
        """At most `limit` trusted originals that have no words yet, other than those; `tenant` None: anybody's."""
        query: dict[str, Any] = {
            "tenant": tenant,
            "vocabulary": self._vocabulary,
            "limit": limit,
            "but": [f"{each.tenant}/{each.image.sha256}" for each in but],
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_MISSING, query)).fetchall()
        return [picture_of(row) for row in rows]

    async def missing_count(self, tenant: str | None) -> int:
        """How many trusted originals have no words yet."""
        query = {"tenant": tenant, "vocabulary": self._vocabulary}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_MISSING_COUNT, query)).fetchone()
        return row["pictures"] if row else 0

    async def lacking(self, picture: Picture) -> bool:
        """Whether a picture is a trusted original that has no words yet."""
        query = {"tenant": picture.tenant, "vocabulary": self._vocabulary, "sha256": picture.image.sha256}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_LACKING, query)).fetchone()
        return row is not None

    async def _counted(self, space: int) -> WordCounts | None:
        """How common a space's words are, as of an hour ago at most; None while the index is so small that it does not
        matter."""
        at, counts = self._counts.get(space, (-np.inf, None))
        if monotonic() - at < COUNTED_FOR_S:
            return counts
        async with self._database.connection() as connection:
            row = await (await connection.execute(_SIZE)).fetchone()
            postings = row["postings"] if row else 0
            counts = await _sampled(connection, space, postings) if postings > self._few else None
        self._counts[space] = (monotonic(), counts)
        return counts

    async def _space(self, tenant: str) -> int:
        if tenant not in self._spaces:
            query = {"tenant": tenant, "vocabulary": self._vocabulary}
            async with self._database.connection() as connection:
                await connection.execute(_OPEN_SPACE, query)
                row = await (await connection.execute(_SPACE, query)).fetchone()
            self._spaces[tenant] = row["number"] if row else 0
        return self._spaces[tenant]


_OPEN_SPACE = """
insert into word_space (tenant, vocabulary) select %(tenant)s, %(vocabulary)s
where not exists (select 1 from word_space where tenant = %(tenant)s and vocabulary = %(vocabulary)s)
on conflict do nothing
"""
_SPACE = "select number from word_space where tenant = %(tenant)s and vocabulary = %(vocabulary)s"
_ANY = "select 1 from worded where space = %(space)s limit 1"
_ADD = """
with added as (
    insert into worded (seq, space, keys)
    select seq, %(space)s, %(keys)s::bigint[] from candidate
    where tenant = %(tenant)s and sha256 = %(sha256)s and trusted = %(trusted)s for key share
    on conflict do nothing
    returning seq
)
insert into visual_word (key, seq, place)
select posting.key, added.seq, posting.place
from added cross join unnest(%(keys)s::bigint[], %(places)s::integer[]) as posting (key, place)
order by posting.key
"""
# As one value, which costs a tenth of so many rows.
_SHARED = """
select string_agg(int8send(asked.key) || int8send(found.seq) || int4send(asked.feature) || int4send(found.place), '')
    as hits
from unnest(%(keys)s::bigint[], %(features)s::integer[]) as asked (key, feature) cross join lateral (
    select seq, place from visual_word where visual_word.key = asked.key limit %(most)s
) as found
"""
# What the planner was told last; -1 and nothing where it was told nothing.
_SIZE = "select greatest(reltuples, 0)::bigint as postings from pg_class where oid = 'visual_word'::regclass"
# Of whole pages, which stand in the order in which pictures were added.
_SAMPLE = """
with sample as materialized (select key from visual_word tablesample system (%(percent)s)),
counted as (
    select key, count(*) as times from sample where key >= %(first)s and key < %(end)s group by key
)
select (select count(*) from sample) as sampled, sum(times)::bigint as here,
       string_agg(int8send(key) || int8send(times), '') as words
from counted
"""
_PICTURES = """
select candidate.tenant, candidate.original_id, candidate.trusted, candidate.source, candidate.registered_at, content.*
from unnest(%(numbers)s::bigint[]) with ordinality as asked (seq, place)
join candidate using (seq) join content using (sha256)
where candidate.stopped_by is null
order by asked.place
"""
_HAS_NONE = """
trusted and (%(tenant)s::text is null or candidate.tenant = %(tenant)s) and not exists (
    select 1 from worded join word_space on word_space.number = worded.space
    where worded.seq = candidate.seq and word_space.vocabulary = %(vocabulary)s
)
"""
_MISSING = f"""
select candidate.tenant, candidate.original_id, candidate.trusted, candidate.source, candidate.registered_at, content.*
from candidate join content using (sha256)
where {_HAS_NONE} and candidate.tenant || '/' || candidate.sha256 <> all(%(but)s::text[])
order by candidate.seq limit %(limit)s
"""
_LACKING = f"select 1 from candidate where sha256 = %(sha256)s and {_HAS_NONE}"
_MISSING_COUNT = f"select count(*) as pictures from candidate where {_HAS_NONE}"


async def _sampled(connection: Connection, space: int, postings: int) -> WordCounts:
    query = {
        "percent": min(100.0, 100.0 * SAMPLED / postings),
        "first": space << _KEY_BITS,
        "end": (space + 1) << _KEY_BITS,
    }
    row = await (await connection.execute(_SAMPLE, query)).fetchone()
    found = np.sort(np.frombuffer((row and row["words"]) or b"", _COUNT), order="key")
    sampled, all_sampled = (row["here"] or 0, row["sampled"] or 0) if row else (0, 0)
    words = found["key"].astype(np.int64) & (2**_KEY_BITS - 1)
    here = round(postings * sampled / max(all_sampled, 1))
    return WordCounts(here, sampled, words, found["count"].astype(np.int64))


def _keys(space: int, words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray((space << _KEY_BITS) + words, np.int64)


def _weights(keys: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[M] for each hit 1 / sqrt(pictures that have its word)."""
    if not len(keys):
        return np.zeros(0)
    _, which = np.unique(keys, return_inverse=True)
    once = np.unique(which.astype(np.int64) << 40 | numbers.astype(np.int64) & (2**40 - 1))
    pictures = np.bincount(once >> 40)
    return np.asarray(1.0 / np.sqrt(pictures[which]), np.float64)
