"""Hashes of trusted originals in the memory of this process, searched by looking at every one of them.

In: originals as the database has them. Out: which are near, with none missed. A graph misses hashes that are far: PDQ's
bits hardly know of each other, so that strangers are all equally far away and a walk has nothing to go by. Looking at a
million takes some milliseconds; see docs/decisions/0035-hashes-in-memory.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt
import structlog

from services.clients.database import Database
from services.core.errors import PentimentoError
from services.core.intake.fingerprint import LEAST_QUALITY

NEAREST: Final = 200  # originals that one search names

_log = structlog.get_logger()
_ROW: Final = np.dtype([("seq", ">i8"), ("bits", ">i4"), ("pdq", "u1", (32,))])

Hashes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scanned:
    """The numbers (`seq`) of originals that are near, nearest first, some of which may be gone or stopped by now; and
    the number after which the database has to look itself."""

    near: tuple[int, ...]
    until: int


@dataclass(frozen=True, slots=True)
class Pace:
    """When the database is looked at, and how much of it at once."""

    refresh_s: float = 10.0  # between looks for new ones
    reload_s: float = 600.0  # until all are read again: what was removed since is gone then
    changed_reload_s: float = 60.0  # at least, until all are read again because pictures were stopped, freed or erased
    settle_s: float = 2.0  # for a number that was drawn and whose transaction is not to be seen yet
    chunk: int = 50_000  # numbers that one statement reads
    tail_most: int = 20_000  # numbers that are too new to be here; the database looks at those one by one


USUAL: Final = Pace()


@dataclass(slots=True)
class _Library:
    """A tenant's originals: their hashes, and their numbers in the same order."""

    index: Any = field(default_factory=lambda: faiss.IndexBinaryFlat(256))
    numbers: list[Numbers] = field(default_factory=list)
    # An index must not grow while it is searched, also by a thread whose search nobody waits for any more.
    alone: Lock = field(default_factory=Lock)

    def add(self, numbers: Numbers, hashes: Hashes) -> None:
        with self.alone:
            self.index.add(hashes)
            self.numbers.append(numbers)

    def near(self, ways: Hashes, max_distance: int, most: int) -> Numbers:
        with self.alone:
            if len(self.numbers) > 1:
                self.numbers = [np.concatenate(self.numbers)]
            _, far, places = self.index.range_search(ways, max_distance + 1)
        order = np.argsort(far, kind="stable")
        _, first = np.unique(places[order], return_index=True)  # an original that several ways find is named once
        return np.asarray(self.numbers[0][places[order][np.sort(first)][:most]], np.int64)


@dataclass(frozen=True, slots=True)
class _Moment:
    """How far registration was: the newest number, and the transactions that ran, from the oldest one's on to before
    the next one's."""

    at: float
    newest: int
    oldest: int
    next: int

    def over(self, now: _Moment, settle_s: float) -> bool:
        """Whether everything has ended since that ran then. The time is for a number that was drawn by a transaction
        just before it got its own."""
        return now.oldest >= self.next and now.at - self.at >= settle_s


@dataclass(slots=True)
class _Snapshot:
    """Originals up to the number `until`, all decided by then; `changes` tells stop list and erasures of then."""

    loaded_at: float
    changes: str
    until: int = 0
    libraries: dict[str, _Library] = field(default_factory=dict)

    def outdated(self, changes: str, at: float, pace: Pace) -> bool:
        age_s = at - self.loaded_at
        return age_s >= pace.reload_s or (changes != self.changes and age_s >= pace.changed_reload_s)


class HashScan:
    """Trusted originals by hash, exactly. A search that comes more than `pace.refresh_s` after the last look at the
    database has one begun beside it, and waits for nothing. At most `most` originals are kept, all tenants together:
    where there are more, none is, and the graph answers alone.
    """

    def __init__(self, database: Database, *, most: int, pace: Pace = USUAL) -> None:
        self._database = database
        self._most = most
        self._pace = pace
        self._snapshot: _Snapshot | None = None
        self._moments: list[_Moment] = []
        self._counted_at = -np.inf  # when there were too many
        self._looked_at = -np.inf
        self._looking: asyncio.Task[None] | None = None
        faiss.omp_set_num_threads(1)

    async def near(self, tenant: str, ways: Sequence[str], *, max_distance: int, most: int = NEAREST) -> Scanned | None:
        """At most `most` of the tenant's originals within `max_distance` of one of the hashes [64 hexadecimal digits].

        None where this process cannot tell: it has not read them yet, there are too many, or too many are new.
        """
        self._look_beside()
        snapshot = self._snapshot
        if snapshot is None or self._moments[-1].newest - snapshot.until > self._pace.tail_most:
            return None
        library = snapshot.libraries.get(tenant)
        if library is None:
            return Scanned((), snapshot.until)
        asked = np.frombuffer(bytes.fromhex("".join(ways)), np.uint8).reshape(-1, 32)
        until = snapshot.until  # as of before: what comes meanwhile the database finds, too
        found = await asyncio.to_thread(library.near, asked, max_distance, most)
        return Scanned(tuple(found.tolist()), until)

    async def look(self) -> None:
        """Reads what is new; or all, where that was long ago. Raises `Unavailable` or `Broken` only."""
        moment, changes = await self._moment()
        decided = self._decided(moment)
        self._moments.append(moment)
        snapshot = self._snapshot
        if decided is None:
            return
        if snapshot is not None and not snapshot.outdated(changes, moment.at, self._pace):
            await self._read(snapshot, decided)
        elif moment.at - self._counted_at >= self._pace.reload_s:
            await self._load(_Snapshot(moment.at, changes), decided)

    async def close(self) -> None:
        """Ends a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _look_beside(self) -> None:
        under_way = self._looking is not None and not self._looking.done()
        if not under_way and monotonic() - self._looked_at > self._pace.refresh_s:
            self._looked_at = monotonic()
            self._looking = asyncio.create_task(self._look_and_say(), name="hashes of originals")

    async def _look_and_say(self) -> None:
        try:
            await self.look()
        except PentimentoError as error:  # the search beside which this runs meets it, too
            _log.warning("hashes_not_read", error=str(error))

    def _decided(self, now: _Moment) -> int | None:
        """The number up to which no registration is under way: the newest one of the last moment all of whose
        transactions have ended. None: not known yet."""
        over = [place for place, each in enumerate(self._moments) if each.over(now, self._pace.settle_s)]
        if over:
            self._moments = self._moments[over[-1] :]
        return self._moments[0].newest if over else None

    async def _moment(self) -> tuple[_Moment, str]:
        async with self._database.connection() as connection:
            row = await (await connection.execute(_MOMENT)).fetchone()
        assert row is not None
        return _Moment(monotonic(), row["newest"], row["oldest"], row["next"]), row["changes"]

    async def _load(self, fresh: _Snapshot, until: int) -> None:
        async with self._database.connection() as connection:
            row = await (await connection.execute(_COUNT, {"most": self._most})).fetchone()
        if row and row["originals"] > self._most:
            self._snapshot, self._counted_at = None, fresh.loaded_at
            _log.warning("hashes_not_kept", originals_more_than=self._most)
            return
        await self._read(fresh, until)
        self._snapshot = fresh

    async def _read(self, into: _Snapshot, until: int) -> None:
        """Everything after `into.until` up to that number."""
        while into.until < until:
            end = min(until, into.until + self._pace.chunk)
            query = {"after": into.until, "until": end}
            async with self._database.connection() as connection:
                rows = await (await connection.execute(_READ, query)).fetchall()
            for row in rows:
                found = np.frombuffer(row["originals"], _ROW)
                library = into.libraries.setdefault(row["tenant"], _Library())
                library.add(found["seq"].astype(np.int64), np.ascontiguousarray(found["pdq"]))
            into.until = end


_FINDABLE = f"trusted and pdq_quality >= {LEAST_QUALITY} and stopped_by is null"
_MOMENT = """
select coalesce((select max(seq) from candidate), 0) as newest,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next,
       concat_ws(
           '/', (select count(*) from stop_entry), (select max(id) from stop_entry),
           (select count(*) from stop_entry where lifted), (select max(id) from erasure)
       ) as changes
"""
_COUNT = f"select count(*) as originals from (select 1 from candidate where {_FINDABLE} limit %(most)s + 1) as counted"
# As one value for each tenant, which costs a tenth of so many rows.
_READ = f"""
select tenant, string_agg(int8send(seq) || bit_send(pdq), '' order by seq) as originals
from candidate where {_FINDABLE} and seq > %(after)s and seq <= %(until)s
group by tenant
"""
