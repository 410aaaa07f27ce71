"""The ledger: the authority on verdicts. Written before a verdict is published; the first writer of a revision wins.

In: a verdict that somebody is about to publish. Out: the verdict that must be published, byte for byte the same for
every process and every repetition. At-least-once delivery plus this table makes "exactly one verdict".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.clients.database import Connection, Database
from services.core.errors import Broken, Unavailable
from services.core.events import ModelVersion, VerdictReached
from services.core.judge.again import names


class Ledger:
    """Verdicts that were claimed. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, verdict: VerdictReached) -> VerdictReached:
        """The first verdict (revision 0) that stands for an upload: this one, or the one that was claimed before it."""
        if verdict.revision != 0:
            raise Broken(f"revision {verdict.revision} of upload {verdict.upload_id}: claim it with claim_revision")
        async with self._database.connection() as connection:
            return await _claim(connection, verdict, cause=None)

    async def claim_revision(self, verdict: VerdictReached, cause: str, *, over: int | None = None) -> VerdictReached:
        """The revision of a verdict that `cause` (the id of a review, a late original, ...) leads to.

        The verdict's own `revision` is ignored: the next free one is given to it. The same cause gets the same stored
        revision whenever it asks, whatever verdict it brings. `over` is the revision that the verdict was made to
        replace: if another one came in between, `Unavailable` asks to look again. Raises `Broken` if there is no
        verdict to revise.
        """
        upload = {"tenant": verdict.tenant, "upload_id": verdict.upload_id}
        async with self._database.connection() as connection, connection.transaction():
            # One revision of an upload at a time; the lock ends with the transaction.
            await connection.execute(_LOCK_UPLOAD, upload)
            row = await (await connection.execute(_BY_CAUSE, {**upload, "cause": cause})).fetchone()
            if row is not None:
                return _parsed(row["event"])
            row = await (await connection.execute(_NEWEST_REVISION, upload)).fetchone()
            if row is None or row["newest"] is None:
                raise Broken(f"upload {verdict.upload_id} of {verdict.tenant} has no verdict to revise: judge it first")
            if over is not None and row["newest"] != over:
                text = f"upload {verdict.upload_id} got revision {row['newest']} while {over} was revised: look again"
                raise Unavailable("postgres", text)
            revised = verdict.model_copy(update={"revision": row["newest"] + 1})
            return await _claim(connection, revised, cause=cause)

    async def caused(self, tenant: str, upload_id: str, cause: str) -> VerdictReached | None:
        """The revision that a cause has led to; None if it has led to none yet."""
        query = {"tenant": tenant, "upload_id": upload_id, "cause": cause}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BY_CAUSE, query)).fetchone()
        return None if row is None else _parsed(row["event"])

    async def latest(self, tenant: str, upload_id: str, *, below: int | None = None) -> VerdictReached | None:
        """The verdict of the highest revision, or of the highest one `below` another; None if there is none."""
        query = {"tenant": tenant, "upload_id": upload_id, "below": below}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_LATEST, query)).fetchone()
        return None if row is None else _parsed(row["event"])

    async def reusable(
        self,
        tenant: str,
        sha256: str,
        *,
        models: Iterable[ModelVersion],
        policy_version: str,
        candidate_sha256: str | None,
    ) -> VerdictReached | None:
        """The newest verdict that would be reached again on the same bytes: by models that all are among `models`,
        the same policy, and compared with the same candidate (or with none). Never a rejected, reused or reviewed one.
        """
        query = {
            "tenant": tenant,
            "sha256": sha256,
            "models": names(models),
            "policy_version": policy_version,
            "candidate_sha256": candidate_sha256,
        }
        async with self._database.connection() as connection:
            row = await (await connection.execute(_REUSABLE, query)).fetchone()
        return None if row is None else _parsed(row["event"])


# A row that somebody else is inserting right now is not in this statement's snapshot: the insert waits for it and then
# yields nothing, and so does the select. Hence the second look in `_claim`.
_INSERT = """
with inserted as (
    insert into ledger (tenant, upload_id, revision, cause, decision, path, sha256, candidate_sha256, models,
                        policy_version, judged_at, event)
    values (%(tenant)s, %(upload_id)s, %(revision)s, %(cause)s, %(decision)s, %(path)s, %(sha256)s,
            %(candidate_sha256)s, %(models)s, %(policy_version)s, %(judged_at)s, %(event)s)
    on conflict do nothing
    returning event
)
select event from inserted
union all
select event from ledger where tenant = %(tenant)s and upload_id = %(upload_id)s and revision = %(revision)s
"""
_CLAIMED = """
select event from ledger where tenant = %(tenant)s and upload_id = %(upload_id)s and revision = %(revision)s
"""
_LOCK_UPLOAD = "select pg_advisory_xact_lock(hashtextextended(%(tenant)s || '/' || %(upload_id)s, 0))"
_BY_CAUSE = "select event from ledger where tenant = %(tenant)s and upload_id = %(upload_id)s and cause = %(cause)s"
_NEWEST_REVISION = """
select max(revision) as newest from ledger where tenant = %(tenant)s and upload_id = %(upload_id)s
"""
_LATEST = """
select event from ledger
where tenant = %(tenant)s and upload_id = %(upload_id)s and revision < coalesce(%(below)s, 2147483647)
order by revision desc limit 1
"""
_REUSABLE = """
select event from ledger
where tenant = %(tenant)s and sha256 = %(sha256)s and path not in ('rejected', 'reused', 'reviewed')
    and models <@ %(models)s::text[] and policy_version = %(policy_version)s
    and candidate_sha256 is not distinct from %(candidate_sha256)s
order by judged_at desc, upload_id, revision desc
limit 1
"""


async def _claim(connection: Connection, verdict: VerdictReached, *, cause: str | None) -> VerdictReached:
    row_to_insert = _row(verdict, cause)
    for statement in (_INSERT, _CLAIMED):
        row = await (await connection.execute(statement, row_to_insert)).fetchone()
        if row is not None:
            return _parsed(row["event"])
    raise Broken(
        f"the verdict of upload {verdict.upload_id} (revision {verdict.revision}) was neither stored nor found: "
        "was the ledger deleted from?"
    )


def _row(verdict: VerdictReached, cause: str | None) -> dict[str, Any]:
    return {
        "tenant": verdict.tenant,
        "upload_id": verdict.upload_id,
        "revision": verdict.revision,
        "cause": cause,
        "decision": verdict.decision.value,
        "path": verdict.path.value,
        "sha256": None if verdict.image is None else verdict.image.sha256,
        "candidate_sha256": None if verdict.candidate is None else verdict.candidate.sha256,
        "models": names(verdict.models),
        "policy_version": verdict.policy_version,
        "judged_at": verdict.judged_at,
        "event": verdict.to_bytes().decode(),
    }


def _parsed(event: str) -> VerdictReached:
    return VerdictReached.model_validate_json(event)
