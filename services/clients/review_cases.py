"""Review cases as verdicts make them: opened, joined, and settled by later revisions.

In: verdicts of the learn group in the order of an upload's revisions, and why each needs a person. Out: rows. A verdict
that comes again changes nothing; of verdicts that belong together one opens the case, whichever process has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from services.clients.audit import record_with
from services.clients.database import Connection, Database, storable
from services.clients.review_rows import NO_CASE, Refusal, rank_of, viewer
from services.core.access import Person
from services.core.events import VerdictReached
from services.core.review.cases import Need, Standing, clusters, rank, settled_because


class ReviewCases:
    """Opens, settles and reopens cases. Raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, verdict: VerdictReached, need: Need | None, *, now: datetime) -> None:
        """Put a verdict into its case, or take it out where it needs nobody any more."""
        keys = clusters(verdict)
        query = {"tenant": verdict.tenant, "upload_id": verdict.upload_id, "revision": verdict.revision, "now": now}
        async with self._database.connection() as connection, connection.transaction():
            together = () if need is None else keys  # who opens no case need not wait for others who do
            for key in sorted((f"upload/{verdict.upload_id}", *together)):  # sorted, so that nobody waits in a circle
                await connection.execute(_LOCK, {**query, "key": key})
            if await (await connection.execute(_OVERTAKEN, query)).fetchone() is not None:
                return
            known = await (await connection.execute(_KNOWN, query)).fetchone()
            waiting = known is not None and known["state"] == "open" and known["member_state"] == "open"
            if known is not None and waiting and (need is not None or known["reopened"]):
                await _update(connection, known, verdict)
            elif known is not None and waiting:
                await _settle(connection, known, verdict)
            elif need is not None:
                await _join(connection, {**query, "keys": list(keys)}, verdict, need)

    async def reopen(self, person: Person, case_id: str, note: str, *, now: datetime) -> Refusal | None:
        """Ask for another decision on a case that is decided or settled, about the revisions that stand by now."""
        query = {**viewer(person), "id": case_id, "now": now, "kind": "reopened", "note": storable(note)}
        async with self._database.connection() as connection, connection.transaction():
            row = await (await connection.execute(_CLOSED_CASE, query)).fetchone()
            if row is None:
                return NO_CASE
            if row["state"] == "open" or row["pending"]:
                return Refusal("case_open", "This case is open, or its decision is not published yet.")
            await connection.execute(_OPEN_MEMBERS, query)
            counted = await (await connection.execute(_COUNT_MEMBERS, query)).fetchone()
            members = 0 if counted is None else counted["members"]
            await connection.execute(_OPEN_AGAIN, {**query, "members": members, "rank": rank_of(row, members=members)})
            await connection.execute(ADD_NOTE, query)
            details = {"case": str(row["id"])}
            await record_with(connection, person, "review_reopened", tenant=row["tenant"], details=details)
        return None


_LOCK = "select pg_advisory_xact_lock(hashtextextended('review/' || %(tenant)s || '/' || %(key)s, 0))"
# The projection has a later revision, or a case has seen this one: the event was delivered before.
_OVERTAKEN = """
select 1 from verdict where tenant = %(tenant)s and upload_id = %(upload_id)s and revision > %(revision)s
union all
select 1 from review_member join review_case on review_case.id = case_id
where review_member.tenant = %(tenant)s and review_member.upload_id = %(upload_id)s
    and review_member.revision >= %(revision)s and honeypot is null
"""
_KNOWN = """
select review_case.*, review_member.state as member_state
from review_member join review_case on review_case.id = case_id
where review_member.tenant = %(tenant)s and review_member.upload_id = %(upload_id)s and honeypot is null
order by joined_at desc limit 1 for update of review_case
"""
_TOGETHER = """
select * from review_case
where id in (
    select id from review_case
    where tenant = %(tenant)s and state = 'open' and honeypot is null and cluster = any(%(keys)s)
    union all
    select case_id from review_member where tenant = %(tenant)s and sha256 = any(%(keys)s)
) and state = 'open' and honeypot is null
order by opened_at, id limit 1 for update
"""
_OPEN = """
insert into review_case (id, tenant, cluster, kind, nearness, weight, members, rank, opened_at, upload_id, revision)
values (%(id)s, %(tenant)s, %(cluster)s, %(kind)s, %(nearness)s, %(weight)s, 1, %(rank)s, %(opened_at)s, %(upload_id)s,
        %(revision)s)
"""
ADD_MEMBER = """
insert into review_member (case_id, tenant, upload_id, revision, sha256, width, height, decision, score, filename,
                           joined_at)
values (%(id)s, %(tenant)s, %(upload_id)s, %(revision)s, %(sha256)s, %(width)s, %(height)s, %(decision)s, %(score)s,
        %(filename)s, %(now)s)
on conflict (case_id, upload_id) do update
    set state = 'open', revision = excluded.revision, decision = excluded.decision, score = excluded.score,
        joined_at = excluded.joined_at
"""
_GROW = """
update review_case set members = %(members)s, nearness = %(nearness)s, rank = %(rank)s where id = %(id)s
"""
_UPDATE_MEMBER = """
update review_member set revision = %(revision)s, decision = %(decision)s, score = %(score)s, state = %(state)s
where case_id = %(id)s and upload_id = %(upload_id)s
"""
_SHOW_REVISION = "update review_case set revision = %(revision)s where id = %(id)s and upload_id = %(upload_id)s"
_SETTLE_CASE = """
update review_case set state = 'settled', settled_because = %(because)s, members = 0, locked_by = null,
    locked_name = null, locked_until = null
where id = %(id)s
"""
# The upload that is shown next is the one that waits longest.
_SHRINK = """
update review_case set members = %(members)s, rank = %(rank)s, upload_id = next.upload_id, revision = next.revision
from (
    select upload_id, revision from review_member where case_id = %(id)s and state = 'open'
    order by upload_id <> %(shown)s, joined_at, upload_id limit 1
) as next
where review_case.id = %(id)s
"""

# A case with a known answer has nothing to decide anew.
_CLOSED_CASE = """
select review_case.*, exists (
    select 1 from review_decision join review_outcome on decision_id = review_decision.id
    where case_id = review_case.id and due_at is not null and sent_at is null
) as pending
from review_case
where id = %(id)s and honeypot is null and (%(tenants)s::text[] is null or tenant = any(%(tenants)s::text[]))
for update
"""
_OPEN_MEMBERS = """
update review_member set state = 'open', revision = verdict.revision, decision = verdict.decision, score = verdict.score
from verdict
where case_id = %(id)s and verdict.tenant = review_member.tenant and verdict.upload_id = review_member.upload_id
"""
_COUNT_MEMBERS = "select count(*) as members from review_member where case_id = %(id)s and state = 'open'"
_OPEN_AGAIN = """
update review_case set state = 'open', settled_because = null, reopened = true, members = %(members)s, rank = %(rank)s,
    first_decision = null, first_by = null, second_decision = null, second_by = null, revision = shown.revision
from (select case_id, upload_id, revision from review_member) as shown
where id = %(id)s and shown.case_id = id and shown.upload_id = review_case.upload_id
"""
ADD_NOTE = """
insert into review_note (case_id, kind, name, note, at) values (%(id)s, %(kind)s, %(name)s, %(note)s, %(now)s)
"""


async def shrink(connection: Connection, row: Mapping[str, Any], members: int) -> None:
    """A case of which `members` uploads are left to be decided, one at least: its place, and which one it shows."""
    changed = {"id": row["id"], "members": members, "rank": rank_of(row, members=members), "shown": row["upload_id"]}
    await connection.execute(_SHRINK, changed)


async def _update(connection: Connection, known: Mapping[str, Any], verdict: VerdictReached) -> None:
    changed = {**member_row(verdict), "id": known["id"], "state": "open"}
    await connection.execute(_UPDATE_MEMBER, changed)
    await connection.execute(_SHOW_REVISION, changed)


async def _settle(connection: Connection, known: Mapping[str, Any], verdict: VerdictReached) -> None:
    changed = {**member_row(verdict), "id": known["id"], "state": "settled"}
    await connection.execute(_UPDATE_MEMBER, changed)
    if known["members"] > 1:
        await shrink(connection, known, known["members"] - 1)
    else:
        await connection.execute(_SETTLE_CASE, {"id": known["id"], "because": storable(settled_because(verdict))})


async def _join(connection: Connection, query: dict[str, Any], verdict: VerdictReached, need: Need) -> None:
    row = await (await connection.execute(_TOGETHER, query)).fetchone()
    if row is None:
        opened = Standing(need.kind, need.nearness, need.weight, 1, False, verdict.judged_at)
        facts = {name: getattr(opened, name) for name in Standing.__slots__}
        case = {**query, **facts, "id": uuid4(), "cluster": query["keys"][0], "rank": rank(opened)}
        await connection.execute(_OPEN, case)
        await connection.execute(ADD_MEMBER, {**query, **member_row(verdict), "id": case["id"]})
        return
    changes = {"members": row["members"] + 1, "nearness": max(row["nearness"], need.nearness)}
    await connection.execute(ADD_MEMBER, {**query, **member_row(verdict), "id": row["id"]})
    await connection.execute(_GROW, {"id": row["id"], **changes, "rank": rank_of(row, **changes)})


def member_row(verdict: VerdictReached) -> dict[str, Any]:
    """What a member's row says of a verdict; its picture may have been erased since."""
    image = verdict.image
    return {
        "tenant": verdict.tenant,
        "upload_id": verdict.upload_id,
        "revision": verdict.revision,
        "sha256": None if image is None else image.sha256,
        "width": None if image is None else image.width,
        "height": None if image is None else image.height,
        "decision": verdict.decision.value,
        "score": verdict.score,
        "filename": None if verdict.filename is None else storable(verdict.filename),
    }
