"""The stop list of each tenant: which registered pictures lookup passes over, why, and how many they are.

In: pictures as they are registered, and what operators add or lift. Out: entries, and `candidate.stopped_by`, which the
searches in `candidates.py` heed. An entry stands for a neighbourhood: one is enough for a thousand blank pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.clients.candidates import Picture, bits
from services.clients.database import Connection, Database, storable
from services.core.events import Fingerprint
from services.core.intake.fingerprint import LEAST_QUALITY, orientations
from services.core.intake.stoplist import Reason, StopRules, why_stopped

SKIPPED_AT_MOST = 50  # skipped pictures that are counted for a note
MARKED_AT_MOST = 5000  # pictures that are put under a new entry at once; later ones come as they are registered


@dataclass(frozen=True, slots=True)
class StopEntry:
    """An entry: the hash at its centre [64 hexadecimal digits] and its radius, both None for flat pictures.

    `trusted` says for which kind it holds, None for both. `seen` is how many neighbours led to it, `pictures` how many
    registered pictures it stops now. A lifted entry stops nothing and is not made again.
    """

    id: int
    tenant: str
    reason: Reason
    trusted: bool | None
    pdq: str | None
    radius: int | None
    seen: int
    pictures: int
    note: str
    lifted: bool
    created_at: datetime


class StopList:
    """Entries and what they stop. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database, rules: StopRules) -> None:
        self._database = database
        self._rules = rules

    @property
    def rules(self) -> StopRules:
        """When pictures go onto the list."""
        return self._rules

    async def consider(self, picture: Picture) -> Reason | None:
        """Stop a picture that was registered, where an entry covers it or its neighbourhood has become crowded.

        Returns why it is stopped, None if it is not. Asking again changes nothing.
        """
        query = _query(picture, self._rules)
        async with self._database.connection() as connection:
            row = await (await connection.execute(_STOPPED, query)).fetchone()
            if row is None or row["reason"] is not None:
                return None if row is None else row["reason"]
            quality = picture.fingerprint.pdq_quality
            if why_stopped(quality, 0, self._rules) == "flat":
                return "flat" if await _stop_flat(connection, query) else None
            if quality < LEAST_QUALITY:
                return None  # outside of the graphs: it is found by its very hash alone
            covering = await (await connection.execute(_COVERING, query)).fetchone()
            if covering is not None:
                return await _stopped_by(connection, query, covering)
            row = await (await connection.execute(_NEIGHBOURS, query)).fetchone()
            reason = why_stopped(quality, row["neighbours"] if row else 0, self._rules)
            if reason is not None and row is not None:
                added = query | {"reason": reason, "seen": row["neighbours"], "radius": self._rules.crowd_distance}
                async with connection.transaction():
                    await _add(connection, added | {"note": ""})
        return reason

    async def skipped(self, tenant: str, fingerprint: Fingerprint, *, max_distance: int, ways: int) -> int:
        """How many pictures near an upload lookup passes over because they are stopped; counts up to some fifty.

        1 for a flat upload, whatever it may be near to.
        """
        if fingerprint.pdq_quality < self._rules.flat_quality:
            return 1
        query = {
            "tenant": tenant,
            "ways": ways_of(fingerprint, ways),
            "copy_distance": self._rules.copy_distance,
            "max_distance": max_distance,
            "limit": SKIPPED_AT_MOST,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(_SKIPPED, query)).fetchone()
        return int(row["skipped"]) if row else 0

    async def entries(self, tenant: str, *, lifted: bool = False) -> list[StopEntry]:
        """The tenant's entries, those that stop most first; with `lifted` also those that were lifted."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_ENTRIES, {"tenant": tenant, "lifted": lifted})).fetchall()
        return [_entry(row) for row in rows]

    async def add(self, tenant: str, original_id: str, *, radius: int, note: str = "") -> StopEntry | None:
        """Stop what lies within `radius` of a trusted original's hash, originals and uploads. None: no such original,
        or one that is flat, which is stopped anyway. Adding it again gives the entry that there is, lifted no more.
        """
        query: dict[str, Any] = {"tenant": tenant, "original_id": original_id, "radius": radius}
        async with self._database.connection() as connection, connection.transaction():
            centre = await (await connection.execute(_CENTRE, query)).fetchone()
            if centre is None or centre["pdq_quality"] < LEAST_QUALITY:
                return None
            query |= {"pdq": centre["pdq"], "trusted": None, "reason": "manual", "seen": 0, "note": storable(note)}
            identity = await _add(connection, query)
            rows = await (await connection.execute(_ENTRIES, {"tenant": tenant, "lifted": False})).fetchall()
        return next((_entry(row) for row in rows if row["id"] == identity), None)

    async def lift(self, tenant: str, entry_id: int) -> int | None:
        """Let an entry's pictures be candidates again, for good. How many it stopped; None if there is no such entry.

        A lifted `flat` entry lets flat pictures be found by their very hash.
        """
        query = {"tenant": tenant, "id": entry_id}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_LIFT, query)).fetchone()
            if row is None:
                return None
            return (await connection.execute(_RELEASE, query)).rowcount


def ways_of(fingerprint: Fingerprint, ways: int) -> list[str]:
    """The hashes of the first `ways` orientations as text of 256 bits each."""
    return [bits(pdq) for pdq in orientations(fingerprint.pdq)[:ways]]


_OWN = "tenant = %(tenant)s and sha256 = %(sha256)s and trusted = %(trusted)s"
_STOPPED = """
select stop_entry.reason from candidate left join stop_entry on stop_entry.id = candidate.stopped_by
where candidate.tenant = %(tenant)s and candidate.sha256 = %(sha256)s and candidate.trusted = %(trusted)s
"""
_FLAT = """
insert into stop_entry (tenant, reason, seen) values (%(tenant)s, 'flat', 1)
on conflict (tenant) where reason = 'flat' do update set seen = stop_entry.seen
returning id, lifted
"""
_STOP = f"update candidate set stopped_by = %(id)s where {_OWN} and stopped_by is null"
_COVERING = """
select id, reason, lifted from stop_entry
where tenant = %(tenant)s and pdq is not null and (trusted is null or trusted = %(trusted)s)
    and (pdq <~> %(pdq)s::bit(256)) <= radius
order by lifted desc, id limit 1
"""
# The condition on the distance stands outside, as in candidates.py. The two kinds have a graph each.
_NEAREST_OF_KIND = """
select sha256, (pdq <~> %(pdq)s::bit(256)) as distance from candidate
where tenant = %(tenant)s and {kind} and {asked} and pdq_quality >= 50 and sha256 <> %(sha256)s
order by pdq <~> %(pdq)s::bit(256) limit %(limit)s
"""


_NEIGHBOURS = f"""
select count(distinct sha256) as neighbours from (
    ({_NEAREST_OF_KIND.format(kind="trusted", asked="%(trusted)s")}) union all
    ({_NEAREST_OF_KIND.format(kind="not trusted", asked="not %(trusted)s")})
) as near where distance <= %(crowd_distance)s
"""
_ADD = """
insert into stop_entry (tenant, reason, trusted, pdq, radius, seen, note)
values (%(tenant)s, %(reason)s, %(trusted)s, %(pdq)s::bit(256), %(radius)s, %(seen)s, %(note)s)
returning id
"""
_ADDED_BEFORE = """
update stop_entry set lifted = false, radius = %(radius)s, note = %(note)s
where tenant = %(tenant)s and reason = 'manual' and %(reason)s = 'manual' and pdq = %(pdq)s::bit(256)
returning id
"""
_MARK = """
update candidate set stopped_by = %(id)s where seq in (
    select seq from (
        select near.seq, near.distance from unnest(%(kinds)s::boolean[]) as asked (kind) cross join lateral (
            (select seq, (pdq <~> %(pdq)s::bit(256)) as distance from candidate
             where tenant = %(tenant)s and kind and trusted and pdq_quality >= 50 and stopped_by is null
             order by pdq <~> %(pdq)s::bit(256) limit %(limit)s)
            union all
            (select seq, (pdq <~> %(pdq)s::bit(256)) as distance from candidate
             where tenant = %(tenant)s and not kind and not trusted and pdq_quality >= 50 and stopped_by is null
             order by pdq <~> %(pdq)s::bit(256) limit %(limit)s)
        ) as near
    ) as found where distance <= %(radius)s
)
"""
_SKIPPED = """
select count(distinct near.seq) as skipped from unnest(%(ways)s::text[]::bit(256)[]) as asked (way)
cross join lateral (
    select seq, (pdq <~> way) as distance from candidate
    where tenant = %(tenant)s and stopped_by is not null and pdq_quality >= 50
    order by pdq <~> way limit %(limit)s
) as near
where near.distance > %(copy_distance)s and near.distance <= %(max_distance)s
"""
_ENTRIES = """
select stop_entry.*, (select count(*) from candidate where stopped_by = stop_entry.id) as pictures
from stop_entry where tenant = %(tenant)s and (%(lifted)s or not lifted)
order by pictures desc, id
"""
_CENTRE = """
select pdq, pdq_quality from candidate
where tenant = %(tenant)s and trusted and original_id = %(original_id)s order by seq limit 1
"""
_LIFT = "update stop_entry set lifted = true where tenant = %(tenant)s and id = %(id)s and not lifted returning id"
_RELEASE = "update candidate set stopped_by = null where stopped_by = %(id)s"


async def _stop_flat(connection: Connection, query: dict[str, Any]) -> bool:
    """Put a flat picture under the tenant's entry for them. False where an operator lifted it."""
    row = await (await connection.execute(_FLAT, query)).fetchone()
    if row is None or row["lifted"]:
        return False
    await connection.execute(_STOP, query | {"id": row["id"]})
    return True


async def _stopped_by(connection: Connection, query: dict[str, Any], entry: Mapping[str, Any]) -> Reason | None:
    """Put a picture under an entry that covers it. None where the entry was lifted."""
    if entry["lifted"]:
        return None
    await connection.execute(_STOP, query | {"id": entry["id"]})
    reason: Reason = entry["reason"]
    return reason


async def _add(connection: Connection, query: dict[str, Any]) -> int:
    """A new entry, or the one that an operator made before, and everything near it under it. Returns its id."""
    row = await (await connection.execute(_ADDED_BEFORE, query)).fetchone()
    if row is None:
        row = await (await connection.execute(_ADD, query)).fetchone()
    identity = int(row["id"]) if row else 0
    kinds = [True, False] if query["trusted"] is None else [query["trusted"]]
    await connection.execute(_MARK, query | {"id": identity, "kinds": kinds, "limit": MARKED_AT_MOST})
    return identity


def _query(picture: Picture, rules: StopRules) -> dict[str, Any]:
    return {
        "tenant": picture.tenant,
        "sha256": picture.image.sha256,
        "trusted": picture.trusted,
        "pdq": bits(picture.fingerprint.pdq),
        "crowd_distance": rules.crowd_distance,
        "limit": rules.crowd + 1,
    }


def _entry(row: Mapping[str, Any]) -> StopEntry:
    return StopEntry(
        id=row["id"],
        tenant=row["tenant"],
        reason=row["reason"],
        trusted=row["trusted"],
        pdq=None if row["pdq"] is None else f"{int(row['pdq'], 2):064x}",
        radius=row["radius"],
        seen=row["seen"],
        pictures=row["pictures"],
        note=row["note"],
        lifted=row["lifted"],
        created_at=row["created_at"],
    )
