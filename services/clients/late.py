"""Late originals: the queue of uploads that are judged again because of an original that came after them.

In: uploads as they come, originals as they are registered. Out: one job at a time, at a pace that holds for all
processes together, tenants in turn. The queue is the outbox of `stream/late.py`: a job that was claimed and not settled
comes again when its lease is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from services.clients.candidates import Picture, bits
from services.clients.database import Connection, Database
from services.core.intake.fingerprint import LEAST_QUALITY, orientations

FIRST_DEPTH = 64  # uploads that are looked through around an original; four times as many while all of them are near
State = Literal["sent", "revised", "unchanged", "skipped"]  # unchanged: re-judging only


@dataclass(frozen=True, slots=True)
class LateJob:
    """An upload to be judged again. `attempts` counts claims, this one included."""

    tenant: str
    upload_id: str
    original_sha256: str
    original_id: str
    attempts: int
    queued_at: datetime


@dataclass(frozen=True, slots=True)
class Queued:
    """What an original brought: uploads that are new in the queue, and whether it matched more than are taken."""

    uploads: int
    cut: bool


@dataclass(frozen=True, slots=True)
class LateCount:
    """Uploads of a tenant in one state, for one reason where they were skipped; since when the oldest is there."""

    tenant: str
    state: str
    reason: str | None
    uploads: int
    oldest: datetime


class Uploads:
    """Which upload has which content. Raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, tenant: str, upload_id: str, sha256: str) -> None:
        """Keep it; the first content of an upload id stays."""
        query = {"tenant": tenant, "upload_id": upload_id, "sha256": sha256}
        async with self._database.connection() as connection:
            await connection.execute(_REMEMBER, query)


class LateQueue:
    """The queue. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, original: Picture, *, max_distance: int | None, ways: int, at_most: int) -> Queued:
        """Queue the earlier uploads of the original's tenant that lie within `max_distance` of it in one of the first
        `ways` orientations, the nearest first and at most so many; None: only those of the very same bytes.

        An upload is queued once for an original's content, whatever became of it, and not at all where a verdict of it
        was reached with that content as a trusted original.
        """
        async with self._database.connection() as connection, connection.transaction():
            contents = await _near(connection, original, max_distance, ways, at_most)
            return await _queued(connection, original, contents, at_most)

    async def add_these(self, original: Picture, contents: Sequence[str], *, at_most: int) -> Queued:
        """The same with the earlier uploads of these contents, by SHA-256, however they were found."""
        async with self._database.connection() as connection, connection.transaction():
            return await _queued(connection, original, contents, at_most)

    async def claim(self, *, pause_s: float, lease_s: float) -> LateJob | None:
        """The next job, to be settled within `lease_s` or else given out again; None where nothing is due, or the last
        job was given out, to whichever process, less than `pause_s` ago.
        """
        async with self._database.connection() as connection, connection.transaction():
            tenant = await (await connection.execute(_WHOSE_TURN)).fetchone()
            if tenant is None:
                return None
            if await (await connection.execute(_TAKE_SLOT, {"pause_s": pause_s})).fetchone() is None:
                return None
            query = {"tenant": tenant["tenant"], "lease_s": lease_s}
            await connection.execute(_SERVED, query)
            row = await (await connection.execute(_CLAIM, query)).fetchone()
        return None if row is None else _job(row)

    async def postpone(self, job: LateJob, *, for_s: float) -> None:
        """Give a claimed job out again, but not before so many seconds."""
        async with self._database.connection() as connection:
            await connection.execute(
                _POSTPONE, {**_key(job.tenant, job.upload_id, job.original_sha256), "for_s": for_s}
            )

    async def settle(
        self, tenant: str, upload_id: str, original_sha256: str, state: State, reason: str | None = None
    ) -> bool:
        """What became of a job. `sent` is for one that is queued, `revised` is for ever. Whether that was news."""
        query = {**_key(tenant, upload_id, original_sha256), "state": state, "reason": reason}
        async with self._database.connection() as connection:
            return (await connection.execute(_SETTLE, query)).rowcount > 0

    async def waiting(self) -> tuple[int, datetime | None]:
        """How many uploads are queued, of all tenants, and since when the oldest is."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING)).fetchone()
        return (row["uploads"], row["oldest"]) if row else (0, None)


class LateReport:
    """What became of the late originals of a tenant. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self, tenant: str) -> list[LateCount]:
        """Uploads by state and reason."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_COUNTS, {"tenant": tenant})).fetchall()
        return [LateCount(row["tenant"], row["state"], row["reason"], row["uploads"], row["oldest"]) for row in rows]

    async def cut(self, tenant: str) -> list[str]:
        """The ids of originals that matched more uploads than were taken, the latest first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_CUT_OF, {"tenant": tenant})).fetchall()
        return [row["original_id"] for row in rows]


_REMEMBER = """
insert into upload (tenant, upload_id, sha256) values (%(tenant)s, %(upload_id)s, %(sha256)s) on conflict do nothing
"""
# The condition on the distance stands outside of the scan, as in candidates.py.
_NEAR = """
select near.sha256, min(near.distance) as distance, count(*) as ways
from unnest(%(ways)s::text[]::bit(256)[]) as asked (way) cross join lateral (
    select sha256, (pdq <~> way)::integer as distance from candidate
    where tenant = %(tenant)s and not trusted and pdq_quality >= 50
    order by pdq <~> way limit %(depth)s
) as near
where near.distance <= %(max_distance)s
group by near.sha256 order by distance, near.sha256
"""
_SAME_HASH = """
select sha256 from candidate
where tenant = %(tenant)s and not trusted and pdq = %(pdq)s::bit(256) order by seq limit %(depth)s
"""
# Against the same picture as an earlier upload, for which nobody vouched, is not yet against the original. An event is
# compact JSON with one candidate, and quotes inside of its texts are escaped.
_MATCHED = """
from upload join unnest(%(contents)s::text[]) with ordinality as near (sha256, place) using (sha256)
where upload.tenant = %(tenant)s and not exists (
    select 1 from ledger where ledger.tenant = upload.tenant and ledger.upload_id = upload.upload_id
        and ledger.candidate_sha256 = %(sha256)s and position('"trusted":true' in ledger.event) > 0
)
"""
_MATCHING = f"select count(*) as uploads from (select 1 {_MATCHED} limit %(at_most)s + 1) as matched"
_QUEUE = f"""
insert into late (tenant, upload_id, original_sha256, original_id)
select upload.tenant, upload.upload_id, %(sha256)s, %(original_id)s {_MATCHED}
order by near.place, upload.upload_id limit %(at_most)s
on conflict do nothing
"""
_TENANT = "insert into late_tenant (tenant) values (%(tenant)s) on conflict do nothing"
_CUT = """
insert into late_cut (tenant, original_sha256, original_id, taken)
values (%(tenant)s, %(sha256)s, %(original_id)s, %(at_most)s) on conflict do nothing
"""
_WHOSE_TURN = """
select tenant from late_tenant
where exists (
    select 1 from late where late.tenant = late_tenant.tenant and late.state = 'queued' and late.due_at <= now()
)
order by served_at, tenant limit 1
"""
# One row, so that its lock makes the processes take turns; who comes too early finds that `next_at` has moved.
_TAKE_SLOT = """
insert into late_pace (next_at) values (now() + make_interval(secs => %(pause_s)s))
on conflict (one) do update set next_at = excluded.next_at where late_pace.next_at <= now()
returning 1
"""
_SERVED = "update late_tenant set served_at = clock_timestamp() where tenant = %(tenant)s"
_CLAIM = """
update late set attempts = attempts + 1, due_at = now() + make_interval(secs => %(lease_s)s)
where (tenant, upload_id, original_sha256) = (
    select tenant, upload_id, original_sha256 from late
    where tenant = %(tenant)s and state = 'queued' and due_at <= now()
    order by due_at, queued_at limit 1 for update skip locked
)
returning *
"""
_POSTPONE = """
update late set due_at = now() + make_interval(secs => %(for_s)s)
where tenant = %(tenant)s and upload_id = %(upload_id)s and original_sha256 = %(original_sha256)s and state = 'queued'
"""
_SETTLE = """
update late set state = %(state)s, reason = %(reason)s, settled_at = now()
where tenant = %(tenant)s and upload_id = %(upload_id)s and original_sha256 = %(original_sha256)s
    and state <> %(state)s and (state = 'queued' or (state = 'sent' and %(state)s <> 'sent')
                                or (state = 'skipped' and %(state)s = 'revised'))
"""
_WAITING = "select count(*) as uploads, min(queued_at) as oldest from late where state = 'queued'"
_COUNTS = """
select tenant, state, reason, count(*) as uploads, min(queued_at) as oldest from late
where tenant = %(tenant)s group by tenant, state, reason
order by array_position(array['queued', 'sent', 'revised', 'skipped'], state), reason
"""
_CUT_OF = "select original_id from late_cut where tenant = %(tenant)s order by cut_at desc"


async def _near(
    connection: Connection, original: Picture, max_distance: int | None, ways: int, at_most: int
) -> list[str]:
    """The SHA-256 of earlier uploads' contents near an original, nearest first, its own among them."""
    own = original.image.sha256
    if max_distance is None:
        return [own]
    query: dict[str, Any] = {"tenant": original.tenant, "pdq": bits(original.fingerprint.pdq), "depth": at_most + 1}
    if original.fingerprint.pdq_quality < LEAST_QUALITY:
        rows = await (await connection.execute(_SAME_HASH, query)).fetchall()
        return list(dict.fromkeys([own, *(row["sha256"] for row in rows)]))
    query |= {
        "max_distance": max_distance,
        "ways": [bits(pdq) for pdq in orientations(original.fingerprint.pdq)[:ways]],
    }
    depth = min(FIRST_DEPTH, at_most + 1)
    while True:
        rows = await (await connection.execute(_NEAR, query | {"depth": depth})).fetchall()
        everything = len(rows) <= at_most and sum(row["ways"] for row in rows) < depth
        if everything or depth > at_most:
            return list(dict.fromkeys([own, *(row["sha256"] for row in rows)]))
        depth *= 4


async def _queued(connection: Connection, original: Picture, contents: Sequence[str], at_most: int) -> Queued:
    """Queues the uploads of these contents, nearest first."""
    query = {
        "tenant": original.tenant,
        "sha256": original.image.sha256,
        "contents": list(contents),
        "original_id": original.original_id,
        "at_most": at_most,
    }
    matching = await (await connection.execute(_MATCHING, query)).fetchone()
    cut = matching is not None and matching["uploads"] > at_most
    queued = (await connection.execute(_QUEUE, query)).rowcount
    if queued:
        await connection.execute(_TENANT, query)
    if cut:
        await connection.execute(_CUT, query)
    return Queued(queued, cut)


def _key(tenant: str, upload_id: str, original_sha256: str) -> dict[str, str]:
    return {"tenant": tenant, "upload_id": upload_id, "original_sha256": original_sha256}


def _job(row: Mapping[str, Any]) -> LateJob:
    return LateJob(
        tenant=row["tenant"],
        upload_id=row["upload_id"],
        original_sha256=row["original_sha256"],
        original_id=row["original_id"],
        attempts=row["attempts"],
        queued_at=row["queued_at"],
    )
