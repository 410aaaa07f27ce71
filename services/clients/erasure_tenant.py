"""Everything that PostgreSQL holds of one tenant, removed a piece at a time; and what is still there.

In: a tenant. Out: its contents, which `erasing.erase` removes one by one, then the rows that are left, table by table.
Kept are the audit log, without the names of uploads, and the table `erasure`: that something was erased. A new table
with tenants gets its line here; a test finds those that were forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from services.clients.database import Database
from services.clients.erasure import RECORD
from services.clients.words import KEY_BITS
from services.core.erasure import content_mark, tenant_mark

TIMEOUT_S = 3600.0
ROWS_AT_ONCE = 10_000

REMOVED = (
    "webhook", "review_outcome", "review_mask", "review_member", "review_decision", "review_claim", "review_honeypot",
    "review_case", "rejudge", "late", "late_cut", "late_tenant", "shadow", "hard_case_reason", "hard_case",
    "annotation", "sample", "review", "verdict", "verdict_history", "ledger", "audit_upload", "upload", "embedding",
    "unprepared", "candidate", "stop_entry", "word_space",
)  # fmt: skip
"""Tables with tenants, rows before what they refer to."""

KEPT = ("audit", "erasure")


class TenantErasures:
    """Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def contents(self, tenant: str, *, after: str = "", limit: int = 1000) -> list[str]:
        """Contents that the tenant has, or is named with, in the order of their SHA-256."""
        query = {"tenant": tenant, "after": after, "limit": limit}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            rows = await (await connection.execute(_CONTENTS, query)).fetchall()
        return [str(row["sha256"]) for row in rows]

    async def remove_words(self, tenant: str) -> dict[str, int]:
        """Remove the tenant's visual words together, a space at a time, before its pictures go one by one: each would
        be cut out of the lists of all of its words. How many by table."""
        counts: dict[str, int] = {}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            spaces = await (await connection.execute(_SPACES, [tenant])).fetchall()
            for space in spaces:
                keys = {"first": space["number"] << KEY_BITS, "end": (space["number"] + 1) << KEY_BITS}
                for table in ("visual_word", "packed_word"):
                    if removed := (await connection.execute(_REMOVE_KEYS.format(table=table), keys)).rowcount:
                        counts[table] = counts.get(table, 0) + removed
        return counts

    async def remove_rest(self, tenant: str) -> dict[str, int]:
        """Remove every other row, some at once. How many by table."""
        counts: dict[str, int] = {}
        query = {"tenant": tenant, "limit": ROWS_AT_ONCE, "quoted": f'"{tenant}"'}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            for table in REMOVED:
                statement = _REMOVE.format(table=table)
                while removed := (await connection.execute(statement, query)).rowcount:
                    counts[table] = counts.get(table, 0) + removed
            for table, statement in _BESIDE:
                if changed := (await connection.execute(statement, query)).rowcount:
                    counts[table] = changed
        return counts

    async def left(self, tenant: str) -> dict[str, int]:
        """Rows of the tenant by table, of every table that has tenants and is not kept, by the catalogue."""
        found = {}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            tables = await (await connection.execute(_TABLES, {"kept": list(KEPT)})).fetchall()
            for row in tables:
                counted = await connection.execute(
                    f'select count(*) as rows from "{row["name"]}" where tenant = %s'.encode(), [tenant]
                )
                if (count := await counted.fetchone()) and count["rows"]:
                    found[str(row["name"])] = int(count["rows"])
        return found

    async def record(self, tenant: str, by: str, counts: Mapping[str, int], left: Sequence[str]) -> None:
        """Keep that the tenant was erased, by whom, and how much."""
        row = {"tenant": tenant, "mark": tenant_mark(tenant), "by": by}
        async with self._database.connection() as connection:
            await connection.execute(RECORD, {**row, "counts": Jsonb(dict(counts)), "left": Jsonb(list(left))})


class Again:
    """Erasures that a restored database does not know of, from a list of them. Raises `Unavailable` or `Broken`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def listed(self) -> list[dict[str, str]]:
        """What was erased so far: tenant, mark, time. It names no picture."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_LISTED)).fetchall()
        return [{**row, "erased_at": row["erased_at"].isoformat()} for row in rows]

    async def contents(self, tenant: str, marks: Sequence[str]) -> list[str]:
        """The tenant's contents that one of the marks means."""
        query = {"tenant": tenant, "after": "", "limit": None}
        async with self._database.alone(timeout_s=TIMEOUT_S) as connection:
            rows = await (await connection.execute(_CONTENTS, query)).fetchall()
        meant = set(marks)
        return [str(row["sha256"]) for row in rows if content_mark(row["sha256"]) in meant]


_CONTENTS = f"""
select sha256 from ({
    " union ".join(
        f"select sha256 from {table} where tenant = %(tenant)s and sha256 > %(after)s"
        for table in ("candidate", "upload", "ledger", "verdict", "hard_case", "annotation", "sample", "review_member")
    )
}) as found where sha256 is not null order by sha256 limit %(limit)s
"""
_REMOVE = """
delete from {table} where tenant = %(tenant)s
    and ctid = any(array(select ctid from {table} where tenant = %(tenant)s limit %(limit)s))
"""
_SPACES = "select number from word_space where tenant = %s"
_REMOVE_KEYS = "delete from {table} where key >= %(first)s and key < %(end)s"
_BESIDE = (
    ("kept_answer", "delete from kept_answer where position(%(quoted)s in body) > 0"),
    ("person", "update person set tenants = array_remove(tenants, %(tenant)s) where %(tenant)s = any(tenants)"),
    ("api_token", "update api_token set tenants = array_remove(tenants, %(tenant)s) where %(tenant)s = any(tenants)"),
)
_TABLES = """
select table_name as name
from information_schema.columns join information_schema.tables using (table_schema, table_name)
where table_schema = current_schema() and table_type = 'BASE TABLE' and column_name = 'tenant'
    and table_name <> all(%(kept)s) order by table_name
"""
_LISTED = "select tenant, content_mark as mark, erased_at from erasure order by id"
