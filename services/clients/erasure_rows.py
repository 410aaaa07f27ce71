"""The rows of an erasure: which are removed, which are emptied, and where a content may still be named.

In: a connection in a transaction, a tenant and a SHA-256. Out: counts by table, and the keys of the content's masks. A
new table that can name a picture gets its line here; `left_in` finds those that were forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from psycopg import sql

from services.clients.candidates import bits
from services.clients.database import Connection
from services.core.erasure import case_without, masks_of, review_without_mask, verdict_without
from services.core.events import HardCaseFound, ReviewDecided, VerdictReached

OF_CONTENT = "tenant = %(tenant)s and sha256 = %(sha256)s"
_UPLOADS = f"(select upload_id from upload where {OF_CONTENT})"

# In this order: rows before what they refer to, and uploads after what is found through them.
_REMOVE = (
    ("dataset_sample", f"sample_id in (select id from sample where {OF_CONTENT})"),
    ("sample", OF_CONTENT),
    ("annotation", OF_CONTENT),
    ("hard_case_reason", OF_CONTENT),
    ("hard_case", OF_CONTENT),
    ("late", f"tenant = %(tenant)s and (original_sha256 = %(sha256)s or upload_id in {_UPLOADS})"),
    ("rejudge", f"tenant = %(tenant)s and upload_id in {_UPLOADS}"),
    ("late_cut", "tenant = %(tenant)s and original_sha256 = %(sha256)s"),
    ("review_mask", OF_CONTENT),
    ("review_honeypot", OF_CONTENT),
    ("review_outcome", OF_CONTENT),
    ("review_member", OF_CONTENT),
    # Notes and decisions go with a case of which nothing is left.
    ("review_case", "id = any(%(cases)s) and not exists (select 1 from review_member where case_id = review_case.id)"),
    ("candidate", OF_CONTENT),
    ("audit_upload", f"tenant = %(tenant)s and upload_id in {_UPLOADS}"),
    ("upload", OF_CONTENT),
    ("geometry", "%(sha256)s in (upload_sha256, candidate_sha256)"),
)
_REMOVE_THOROUGHLY = (("kept_answer", "position(%(sha256)s in body) > 0"),)  # they are kept for a day
_REMOVE_UNSHARED = (("sample_picture", "sha256 = %(sha256)s"), ("content", "sha256 = %(sha256)s"))

# An entry of the stop list whose centre is this picture holds its hash.
_STOP_ENTRIES = "tenant = %(tenant)s and pdq = %(bits)s::bit(256)"
_FORGET_ENTRIES = f"delete from stop_entry where {_STOP_ENTRIES}"
_RELEASE = (
    f"update candidate set stopped_by = null where stopped_by in (select id from stop_entry where {_STOP_ENTRIES})"
)

# A case goes on with the members that are left of it, and shows one of them.
_REVIEW_ON = """
update review_case set upload_id = shown.upload_id, revision = shown.revision, members = left_of_it.members,
    state = case when before.state = 'open' and left_of_it.members = 0 then 'settled' else before.state end
from review_case as before cross join lateral (
    select upload_id, revision from review_member where case_id = before.id
    order by upload_id <> before.upload_id, state <> 'open', joined_at, upload_id limit 1
) as shown cross join lateral (
    select count(*) filter (where state = 'open') as members from review_member where case_id = before.id
) as left_of_it
where review_case.id = before.id and before.id = any(%(cases)s)
    and (shown.upload_id <> before.upload_id or left_of_it.members <> before.members)
"""

_UNLINK = (
    "update annotation set original_sha256 = null, original_mask_key = null "
    "where tenant = %(tenant)s and original_sha256 = %(sha256)s",
    "update sample set original_sha256 = null where tenant = %(tenant)s and original_sha256 = %(sha256)s",
    "update review_case set cluster = 'erased' where tenant = %(tenant)s and cluster = %(sha256)s",
    "update review_decision set mask_key = null, mask_of = null "
    "where case_id = any(%(cases)s) and mask_of = %(sha256)s",
    _REVIEW_ON,
)

_NAMING = "select * from {table} where tenant = %(tenant)s and position(%(sha256)s in event) > 0"
# The same rows found by indexes: those of the content's own uploads, and of uploads that were compared with it.
_NARROW = {
    table: f"{_NAMING.format(table=table)} and upload_id = any(%(named_in)s)"
    for table in ("ledger", "verdict", "verdict_history")
} | {
    "hard_case": f"{_NAMING.format(table='hard_case')} and sha256 in "
    "(select sha256 from upload where tenant = %(tenant)s and upload_id = any(%(named_in)s))"
}
_NAMED_IN = f"""
select upload_id from upload where {OF_CONTENT}
union select upload_id from ledger where {OF_CONTENT} and path not in ('rejected', 'reused', 'reviewed')
union select upload_id from ledger where tenant = %(tenant)s and candidate_sha256 = %(sha256)s
"""
_CASES = f"""
select case_id from review_member where {OF_CONTENT}
union select id from review_case where tenant = %(tenant)s and cluster = %(sha256)s
"""
_REVIEWS = f"select review.* from review where tenant = %(tenant)s and upload_id in {_UPLOADS}"
# Never null again where there was a candidate: null says that there was none, and such a verdict may be reused.
_WRITE_LEDGER = """
update ledger set event = %(event)s, sha256 = nullif(sha256, %(sha256)s),
    candidate_sha256 = case when candidate_sha256 is not null then 'erased' end
where tenant = %(tenant)s and upload_id = %(upload_id)s and revision = %(revision)s
"""
_WRITE_VERDICT = """
update verdict set event = %(event)s, candidate_id = null, sha256 = nullif(sha256, %(sha256)s),
    filename = case when sha256 is distinct from %(sha256)s then filename end
where tenant = %(tenant)s and upload_id = %(upload_id)s
"""
_WRITE_HISTORY = """
update verdict_history set event = %(event)s
where tenant = %(tenant)s and upload_id = %(upload_id)s and revision = %(revision)s
"""
_WRITE_CASE = "update hard_case set event = %(event)s where tenant = %(tenant)s and sha256 = %(case_sha256)s"
_WRITE_REVIEW = "update review set event = %(event)s where tenant = %(tenant)s and decision_id = %(decision_id)s"
_ANNOTATED_MASKS = f"""
select unnest(array[mask_key, original_mask_key]) as key from annotation where {OF_CONTENT}
union select original_mask_key from annotation where tenant = %(tenant)s and original_sha256 = %(sha256)s
union select mask_key from sample where {OF_CONTENT}
union select mask_key from review_mask where {OF_CONTENT}
"""
_COLUMNS = """
select table_name, column_name, data_type from information_schema.columns join information_schema.tables
    using (table_schema, table_name)
where table_schema = current_schema() and table_type = 'BASE TABLE'
    and data_type in ('text', 'character varying', 'json', 'jsonb', 'bytea', 'bit', 'ARRAY')
order by table_name, ordinal_position
"""

Query = dict[str, Any]
E = TypeVar("E", VerdictReached, HardCaseFound, ReviewDecided)


async def remove(
    connection: Connection, query: Query, pdq: str | None, *, shared: bool, thorough: bool
) -> tuple[dict[str, int], set[str]]:
    """Removes and empties rows. Returns how many by table, and the masks that they named.

    `shared`: what is kept once for all tenants stays. `pdq` is the content's hash, None where others have it, too.
    `thorough` walks through the text of every event of the tenant; otherwise indexes say where the content is named.
    """
    query = {**query, **await _places(connection, query)}
    rows = await (await connection.execute(_ANNOTATED_MASKS, query)).fetchall()
    masks = {str(row["key"]) for row in rows if row["key"] is not None}
    counts: dict[str, int] = {}
    sha256 = str(query["sha256"])

    async def rewrite(table: str, read: str, write: str, kind: type[E], change: Callable[[E], E]) -> None:
        counts[table] = 0
        for row in await (await connection.execute(read, query)).fetchall():
            before = kind.model_validate_json(row["event"])
            after = change(before)
            masks.update(masks_of(before, sha256))
            if after != before:
                await connection.execute(
                    write, {**row, **query, "case_sha256": row.get("sha256"), "event": _text(after)}
                )
                counts[table] += 1

    for table, write in (("ledger", _WRITE_LEDGER), ("verdict", _WRITE_VERDICT), ("verdict_history", _WRITE_HISTORY)):
        naming = _NAMING.format(table=table) if thorough else _NARROW[table]
        await rewrite(table, naming, write, VerdictReached, lambda verdict: verdict_without(verdict, sha256))
    await rewrite("review", _REVIEWS, _WRITE_REVIEW, ReviewDecided, review_without_mask)
    naming = _NAMING.format(table="hard_case") if thorough else _NARROW["hard_case"]
    await rewrite("hard_case", naming, _WRITE_CASE, HardCaseFound, lambda case: case_without(case, sha256))
    if pdq is not None:
        hashed = {**query, "bits": bits(pdq)}
        await connection.execute(_RELEASE, hashed)
        counts["stop_entry"] = (await connection.execute(_FORGET_ENTRIES, hashed)).rowcount
    for table, where in _removals(shared=shared, thorough=thorough):
        removed = (await connection.execute(f"delete from {table} where {where}", query)).rowcount
        counts[table] = counts.get(table, 0) + removed
    for statement in _UNLINK:
        await connection.execute(statement, query)
    return {table: count for table, count in sorted(counts.items()) if count}, masks


async def left_in(connection: Connection, query: Query, pdq: str | None, *, shared: bool) -> list[str]:
    """Every `table.column` of the database that still names the content, by its SHA-256 or its hash.

    Where a table has tenants, only this one's rows are searched; where it has none, a `shared` content may be there.
    """
    columns = await (await connection.execute(_COLUMNS)).fetchall()
    tenants = {row["table_name"] for row in columns if row["column_name"] == "tenant"}
    asked = {**query, "pdq": pdq, "bits": None if pdq is None else bits(pdq)}
    left = []
    for row in columns:
        table, column = row["table_name"], row["column_name"]
        if shared and table not in tenants:
            continue
        where = sql.SQL("tenant = %(tenant)s and") if table in tenants else sql.SQL("")
        named = _named(row["data_type"], column, hashed=pdq is not None)
        statement = sql.SQL("select 1 from {} where {} ({}) limit 1").format(sql.Identifier(table), where, named)
        if await (await connection.execute(statement, asked)).fetchone():
            left.append(f"{table}.{column}")
    return left


def _removals(*, shared: bool, thorough: bool) -> Iterator[tuple[str, str]]:
    yield from _REMOVE
    yield from () if shared else _REMOVE_UNSHARED
    yield from _REMOVE_THOROUGHLY if thorough else ()


async def _places(connection: Connection, query: Query) -> Query:
    """Uploads whose verdicts may name the content, and cases that it is in, before any of them is removed."""
    uploads = await (await connection.execute(_NAMED_IN, query)).fetchall()
    cases = await (await connection.execute(_CASES, query)).fetchall()
    return {"named_in": [row["upload_id"] for row in uploads], "cases": [row["case_id"] for row in cases]}


def _text(event: VerdictReached | HardCaseFound | ReviewDecided) -> str:
    return event.to_bytes().decode()


def _named(data_type: str, column: str, *, hashed: bool) -> sql.Composable:
    """Whether a column names the content, by its type."""
    name = sql.Identifier(column)
    if data_type == "bit":
        return sql.SQL("{}::text = %(bits)s").format(name) if hashed else sql.SQL("false")
    if data_type == "bytea":
        return sql.SQL(
            "position(convert_to(%(sha256)s, 'utf8') in {0}) > 0 or position(decode(%(sha256)s, 'hex') in {0}) > 0"
        ).format(name)
    found = sql.SQL("position(%(sha256)s in {}::text) > 0").format(name)
    return sql.SQL("{} or position(%(pdq)s in {}::text) > 0").format(found, name) if hashed else found
