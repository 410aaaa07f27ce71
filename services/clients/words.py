"""The index of visual words: which registered pictures share words with an upload.

In: pictures with their words. Out: what an upload shares with registered pictures, and those pictures. Which of them
agree on where the words lie is for `core.intake.words`; this only finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.clients.candidates import Picture, picture_of
from services.clients.database import Database
from services.core.intake.postings import Packed, Postings, signed
from services.core.intake.words import STORED, Shared, VisualWords

BUDGET: Final = 4_000_000
"""Postings that one search reads at most, about: all that an upload shares with 100,000 originals. Of a larger index
the rarest words are read that together have so many. A rare word says more about which picture it is."""
MOST_UNPACKED: Final = 500  # of a word; postings that are not packed yet are few, unless packing is far behind

KEY_BITS: Final = 32  # of a key that the word has; the space is above


class WordIndex:
    """Registered pictures, searched by visual words. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, vocabulary: str, *, budget: int = BUDGET) -> None:
        self._database = database
        self._budget = budget
        self._vocabulary = vocabulary

    async def add(self, picture: Picture, words: VisualWords) -> None:
        """Make a registered picture findable by its strongest words. Repeating it changes nothing, and neither does a
        picture that is not registered any more."""
        await self.add_content(picture.tenant, picture.image.sha256, words, trusted=picture.trusted)

    async def add_content(self, tenant: str, sha256: str, words: VisualWords, *, trusted: bool) -> None:
        """The same for a picture of which only that much is known."""
        space = await self._space(tenant)
        query = {
            "tenant": tenant,
            "sha256": sha256,
            "trusted": trusted,
            "space": space,
            "keys": _keys(space, words.words[:STORED, :1]).ravel().tolist(),
            "places": signed(words.places[:STORED]).tolist(),
        }
        async with self._database.connection() as connection:
            await connection.execute(_ADD, query)

    async def shared(self, tenant: str, words: VisualWords) -> Shared:
        """What the upload shares with the tenant's pictures; words that few of them have weigh more, and of a large
        index only those are read."""
        space = await self._space(tenant)
        keys, which, times = np.unique(_keys(space, words.words), return_inverse=True, return_counts=True)
        query = {
            "keys": keys.tolist(),
            "times": times.tolist(),
            "budget": self._budget,
            "most": MOST_UNPACKED,
        }
        async with self._database.connection() as connection, connection.cursor(binary=True) as cursor:
            rows = await (await cursor.execute(_SHARED, query)).fetchall()
        lists = [Packed(row["key"], row["epoch"], row["postings"]) for row in rows]
        features = np.broadcast_to(np.arange(len(words.words))[:, None], words.words.shape).ravel()
        return await asyncio.to_thread(_shared, lists, keys[which.ravel()], features)

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

    async def _space(self, tenant: str) -> int:
        """The number of the tenant's space. It is looked up each time: an erased tenant has another one."""
        query = {"tenant": tenant, "vocabulary": self._vocabulary}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_SPACE, query)).fetchone()
            if row is None:
                await connection.execute(_OPEN_SPACE, query)
                row = await (await connection.execute(_SPACE, query)).fetchone()
        return row["number"] if row else 0


_OPEN_SPACE = """
insert into word_space (tenant, vocabulary) values (%(tenant)s, %(vocabulary)s) on conflict do nothing
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
# The length of postings is known without reading them. A sum for each key keeps the planner from reading all keys.
_SHARED = """
with asked as materialized (
    select key, times from unnest(%(keys)s::bigint[], %(times)s::bigint[]) as asked (key, times)
), counted as (
    select key, times * coalesce(bytes, 0) / 8 as postings from asked cross join lateral (
        select sum(octet_length(postings)) as bytes from packed_word where packed_word.key = asked.key
    ) as list
), affordable as materialized (
    select key from (
        select key, sum(postings) over rarest as together, row_number() over rarest as place
        from counted window rarest as (order by postings, key)
    ) as ordered where together <= %(budget)s or place = 1
)
select key, epoch, postings from affordable join packed_word using (key)
union all
select key, epoch, postings from affordable cross join lateral (
    select (seq >> 32)::integer as epoch,
        string_agg(substring(int8send(seq) from 5) || int4send(place), '' order by seq) as postings
    from (select seq, place from visual_word where key = affordable.key limit %(most)s) as few
    group by seq >> 32
) as unpacked
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


def _keys(space: int, words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray((space << KEY_BITS) + words, np.int64)


def _shared(lists: Sequence[Packed], asked: npt.NDArray[np.int64], features: npt.NDArray[np.int64]) -> Shared:
    """Postings of the `lists` for each of the `features` [K] that asked for a key, `asked` [K]."""
    postings = Postings.of(lists)
    keys, of_key = np.unique(np.array([each.key for each in lists], np.int64), return_inverse=True)
    pictures = np.bincount(of_key, postings.pictures(), len(keys))
    order = np.argsort(asked, kind="stable")
    first = np.searchsorted(asked[order], keys)
    times = (np.searchsorted(asked[order], keys, side="right") - first)[of_key]
    pairs = np.repeat(np.arange(len(lists)), times)  # a list once for each feature that asked for its key
    nth = np.arange(len(pairs)) - np.repeat(np.cumsum(times) - times, times)
    counts = postings.counts[pairs]
    rows = postings.repeated(pairs)
    return Shared(
        postings.numbers[rows],
        np.repeat(features[order[first[of_key[pairs]] + nth]], counts),
        postings.places[rows],
        np.repeat(1.0 / np.sqrt(np.maximum(pictures[of_key[pairs]], 1.0)), counts),
    )
