"""What a decision does to its case, and what is left of it when it is undone.

In: a connection in a transaction that has the case's row, and the decision. Out: rows. A decision is published once its
time to be undone is over. The first of two who are blind to each other is withheld until the second agrees, and both
where they do not; what answers a case with a known answer is withheld for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.clients.database import Connection
from services.clients.review_cases import ADD_NOTE, shrink
from services.clients.review_rows import rank_of, word_of
from services.core.review.decisions import Part, Word, chosen_of_two

_OUTCOMES = """
insert into review_outcome (decision_id, tenant, upload_id, of_revision, sha256, due_at)
select %(decision_id)s, tenant, upload_id, revision, sha256, %(due_at)s from review_member
where case_id = %(id)s and upload_id = any(%(uploads)s) and state = 'open'
"""
_RELEASE = """
update review_outcome set due_at = %(publish_at)s where decision_id = %(winner)s and upload_id = any(%(both)s)
"""
_FIRST_UPLOADS = "select upload_id from review_outcome where decision_id = %(id)s"
_DECISION_ROW = "select * from review_decision where id = %(id)s"
_DONE = """
update review_member set state = 'decided' where case_id = %(id)s and upload_id = any(%(uploads)s) and state = 'open'
"""
_UNLOCKED = "locked_by = null, locked_name = null, locked_until = null"
_CLOSE = f"update review_case set state = 'decided', members = 0, {_UNLOCKED} where id = %(id)s"
_UNLOCK = f"update review_case set {_UNLOCKED} where id = %(id)s"
_FIRST = f"""
update review_case set first_decision = %(decision_id)s, first_by = %(person)s, second_decision = null, {_UNLOCKED}
where id = %(id)s
"""
_SECOND = """
update review_case set second_decision = %(decision_id)s, second_by = %(person)s where id = %(id)s
"""
# What is left of a case when two have agreed on a part of it is anybody's again.
_AGREED = "update review_case set first_by = null, second_by = null where id = %(id)s and state = 'open'"
_DISPUTE = f"update review_case set escalated = true, rank = %(rank)s, {_UNLOCKED} where id = %(id)s"
_BACK = """
update review_member set state = 'open'
where case_id = %(case_id)s and state = 'decided'
    and upload_id in (select upload_id from review_outcome where decision_id = %(id)s)
"""
_NOT_FIRST = """
update review_case set first_decision = null, first_by = null where id = %(case_id)s and first_decision = %(id)s
"""
_NOT_SECOND = """
update review_case set second_decision = null, second_by = null,
    first_by = (select person from review_decision where id = first_decision)
where id = %(case_id)s and second_decision = %(id)s
"""
_OPEN_AGAIN = """
update review_case set state = 'open', rank = %(rank)s, members = %(members)s, escalated = %(escalated)s,
    upload_id = shown.upload_id, revision = shown.revision
from (
    select upload_id, revision from review_member where case_id = %(id)s and state = 'open'
    order by upload_id not in (select upload_id from review_outcome where decision_id = %(decision_id)s),
        joined_at, upload_id
    limit 1
) as shown
where id = %(id)s
"""
_NO_DISPUTE = "delete from review_note where case_id = %(id)s and kind = 'disagreement'"


async def settle(connection: Connection, case: Mapping[str, Any], row: dict[str, Any], part: Part, word: Word) -> None:
    """What a decision does to its case: done with these uploads, or a second person, or a lead has to look."""
    withheld = part in ("first", "second", "honeypot")
    await connection.execute(_OUTCOMES, {**row, "due_at": None if withheld else row["publish_at"]})
    match part:
        case "first":
            await connection.execute(_FIRST, row)
        case "second":
            await connection.execute(_SECOND, row)
            await _compare(connection, case, row, word)
        case _:
            await _done(connection, case, row["uploads"])


async def _compare(connection: Connection, case: Mapping[str, Any], row: dict[str, Any], word: Word) -> None:
    """Two people have decided a case without seeing each other."""
    first = await (await connection.execute(_DECISION_ROW, {"id": case["first_decision"]})).fetchone()
    published = None if first is None else chosen_of_two(word_of(first), word)
    if first is None or published is None:
        await connection.execute(_DISPUTE, {**row, "rank": rank_of(case, escalated=True)})
        text = "Two moderators decided this case without seeing each other, and disagree."
        await connection.execute(ADD_NOTE, {**row, "kind": "disagreement", "name": "review", "note": text})
        return
    decided = await (await connection.execute(_FIRST_UPLOADS, {"id": first["id"]})).fetchall()
    both = sorted({each["upload_id"] for each in decided} & set(row["uploads"]))
    winner = first["id"] if published == "first" else row["decision_id"]
    await connection.execute(_RELEASE, {**row, "winner": winner, "both": both})
    await _done(connection, case, both)
    await connection.execute(_AGREED, case)


async def _done(connection: Connection, case: Mapping[str, Any], uploads: Sequence[str]) -> None:
    """These members are decided; the case goes on with what is left of it."""
    query = {"id": case["id"], "uploads": list(uploads)}
    left = case["members"] - (await connection.execute(_DONE, query)).rowcount
    if left > 0:
        await connection.execute(_UNLOCK, query)
        await shrink(connection, case, left)
    else:
        await connection.execute(_CLOSE, query)


async def reopen(connection: Connection, case: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
    """A case as it was before a decision of it that is undone."""
    await connection.execute(_BACK, decision)
    await connection.execute(_NOT_FIRST, decision)
    disputed = False
    if decision["part"] == "second":
        disputed = (await connection.execute(_NO_DISPUTE, case)).rowcount > 0
        await connection.execute(_NOT_SECOND, decision)
    count = "select count(*) as members from review_member where case_id = %(id)s and state = 'open'"
    row = await (await connection.execute(count, case)).fetchone()
    changes = {"members": row["members"] if row else 0, "escalated": case["escalated"] and not disputed}
    await connection.execute(
        _OPEN_AGAIN, {"id": case["id"], "decision_id": decision["id"], **changes, "rank": rank_of(case, **changes)}
    )
