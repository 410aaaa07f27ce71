"""Verdicts in the order in which they arrived: what the live feed reads.

In: the place that was read last. Out: what came since. Places are numbers of rows; of two rows that are written at the
same time the later number may be seen first, so that a reader looks back a little and remembers what it has seen there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from services.clients.database import Database
from services.core.events import VerdictReached

LOOK_BACK = 200  # numbers below the highest that may still turn up


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verdict and its place, which later ones exceed."""

    place: int
    verdict: VerdictReached


class Arrivals:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self) -> tuple[int, frozenset[int]]:
        """The highest place that there is, and those just below it that are taken; (0, none) where nothing came."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_NEWEST, {"limit": LOOK_BACK})).fetchall()
        places = frozenset(row["seq"] for row in rows)
        return max(places, default=0), places

    async def after(
        self, place: int, *, limit: int, but: Collection[int] = (), tenants: Collection[str] | None = None
    ) -> list[Arrival]:
        """At most `limit` verdicts behind a place, in order, without those at the places `but`; `tenants` None: all."""
        query = {
            "place": place,
            "but": list(but),
            "tenants": None if tenants is None else list(tenants),
            "limit": limit,
        }
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_AFTER, query)).fetchall()
        return [Arrival(row["seq"], VerdictReached.model_validate_json(row["event"])) for row in rows]


_NEWEST = "select seq from verdict_history order by seq desc limit %(limit)s"
_AFTER = """
select seq, event from verdict_history
where seq > %(place)s and seq <> all(%(but)s::bigint[])
    and (%(tenants)s::text[] is null or tenant = any(%(tenants)s::text[]))
order by seq limit %(limit)s
"""
