"""Annotations: what became of hard cases at the hands of the annotator.

In: hard cases, most urgent first, each once per version of the annotator. Out: a row each. A case comes again when a
moderator has decided since, or, where no original was known, when the tenant's originals have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from services.clients.database import Database, storable
from services.core.events import HardCaseFound, ReviewDecided, StoredImage, VerdictReached
from services.core.learn.samples import Labelled, Source

Outcome = Literal["kept", "dropped", "no_original", "failed"]
AnnotatedKind = Literal["spg", "sdg", "drawn", "authentic", "unrelated"]


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A hard case to annotate: the newest verdict of its content, the newest review of it, and `index_seq`, a number
    that changes with the tenant's trusted originals."""

    case: HardCaseFound
    verdict: VerdictReached | None
    review: ReviewDecided | None
    index_seq: int


@dataclass(frozen=True, slots=True)
class AnnotatedCase:
    """What became of a case. `area` and `qes` are 0..1, None where there is no mask; `error` says why it failed."""

    outcome: Outcome
    source: Source
    kind: AnnotatedKind | None = None
    area: float | None = None
    qes: float | None = None
    original_sha256: str | None = None
    mask_key: str | None = None
    original_mask_key: str | None = None
    error: str | None = None


class Annotations:
    """Cases that wait and rows of those that are done. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, tenant: str, annotator: str, *, limit: int) -> list[OpenCase]:
        """The most urgent cases that this version of the annotator has not had yet, or has to have again."""
        query = {"tenant": tenant, "annotator": annotator, "limit": limit}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_MOST_URGENT, query)).fetchall()
        return [_open_case(row) for row in rows]

    async def waiting(self, tenant: str, annotator: str) -> int:
        """How many cases are open."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_WAITING, {"tenant": tenant, "annotator": annotator})).fetchone()
        return row["cases"] if row else 0

    async def record(self, of: OpenCase, annotator: str, found: AnnotatedCase) -> None:
        """Keep what became of a case, in place of what this version said of it before. Repeating it changes nothing; a
        case that was erased meanwhile leaves no trace.
        """
        async with self._database.connection() as connection:
            await connection.execute(_RECORD, _row(of, annotator, found))

    async def kept(self, tenant: str) -> list[Labelled]:
        """Kept annotations that are no sample yet, in the order in which they were made."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_KEPT, {"tenant": tenant})).fetchall()
        return [labelled_of(row, row["said_by"]) for row in rows]


# A content may have had several uploads: the newest verdict and the newest review of any of them count.
_OPEN = """
with newest as (
    select coalesce(max(seq), 0) as seq from candidate where tenant = %(tenant)s and trusted
),
open as (
    select hard_case.*, said.event as review, newest.seq as index_seq from hard_case cross join newest
    left join annotation as done on done.tenant = hard_case.tenant and done.sha256 = hard_case.sha256
        and done.annotator = %(annotator)s
    left join lateral (
        select review.decision_id, review.event from review join upload using (tenant, upload_id)
        where upload.tenant = hard_case.tenant and upload.sha256 = hard_case.sha256
        order by review.decided_at desc, review.decision_id limit 1
    ) as said on true
    where hard_case.tenant = %(tenant)s and (
        done.sha256 is null or done.decision_id is distinct from said.decision_id
        or (done.outcome = 'no_original' and done.index_seq <> newest.seq)
    )
)
"""
_MOST_URGENT = f"""
{_OPEN}
select open.*, judged.event as verdict from open left join lateral (
    select event from verdict where verdict.tenant = open.tenant and verdict.sha256 = open.sha256
    order by judged_at desc, upload_id limit 1
) as judged on true
order by open.priority desc, open.found_at, open.sha256 limit %(limit)s
"""
_WAITING = f"{_OPEN} select count(*) as cases from open"
_RECORD = """
insert into annotation (tenant, sha256, annotator, outcome, source, kind, area, qes, original_sha256, mask_key,
                        original_mask_key, error, policy_version, decision_id, index_seq)
select tenant, sha256, %(annotator)s, %(outcome)s, %(source)s, %(kind)s, %(area)s, %(qes)s, %(original_sha256)s,
       %(mask_key)s, %(original_mask_key)s, %(error)s, %(policy_version)s, %(decision_id)s, %(index_seq)s
from hard_case where tenant = %(tenant)s and sha256 = %(sha256)s
on conflict (tenant, sha256, annotator) do update
    set outcome = excluded.outcome, source = excluded.source, kind = excluded.kind, area = excluded.area,
        qes = excluded.qes, original_sha256 = excluded.original_sha256, mask_key = excluded.mask_key,
        original_mask_key = excluded.original_mask_key, error = excluded.error,
        policy_version = excluded.policy_version, decision_id = excluded.decision_id, index_seq = excluded.index_seq,
        annotated_at = now()
    where (annotation.decision_id, annotation.index_seq) is distinct from (excluded.decision_id, excluded.index_seq)
"""
# What a moderator said is the same sample whichever version of the annotator was running.
_KEPT = """
select * from (
    select distinct on (annotation.sha256, said_by) content.*, annotation.tenant, annotation.mask_key,
        annotation.original_sha256, annotation.kind, annotation.area, annotation.qes, annotation.source,
        case when annotation.source = 'moderator' then 'moderator' else annotation.annotator end as said_by,
        annotation.annotated_at
    from annotation join content using (sha256)
    where annotation.tenant = %(tenant)s and annotation.outcome = 'kept'
    order by annotation.sha256, said_by, annotation.annotated_at desc
) as latest
where not exists (
    select 1 from sample where sample.tenant = latest.tenant and sample.sha256 = latest.sha256
        and sample.annotator = latest.said_by and sample.kind = latest.kind
        and sample.mask_key is not distinct from latest.mask_key
)
order by annotated_at, sha256
"""


def _open_case(row: Mapping[str, Any]) -> OpenCase:
    return OpenCase(
        case=HardCaseFound.model_validate_json(row["event"]),
        verdict=None if row["verdict"] is None else VerdictReached.model_validate_json(row["verdict"]),
        review=None if row["review"] is None else ReviewDecided.model_validate_json(row["review"]),
        index_seq=row["index_seq"],
    )


def _row(of: OpenCase, annotator: str, found: AnnotatedCase) -> dict[str, Any]:
    return {
        "tenant": of.case.tenant,
        "sha256": of.case.image.sha256,
        "annotator": annotator,
        "outcome": found.outcome,
        "source": found.source,
        "kind": found.kind,
        "area": found.area,
        "qes": found.qes,
        "original_sha256": found.original_sha256,
        "mask_key": found.mask_key,
        "original_mask_key": found.original_mask_key,
        "error": None if found.error is None else storable(found.error),
        "policy_version": of.case.policy_version if of.verdict is None else of.verdict.policy_version,
        "decision_id": None if of.review is None else of.review.decision_id,
        "index_seq": of.index_seq,
    }


def labelled_of(row: Mapping[str, Any], annotator: str) -> Labelled:
    """The labelled picture in a row of an annotation or a sample."""
    return Labelled(
        tenant=row["tenant"],
        image=StoredImage.model_validate({name: row[name] for name in StoredImage.model_fields}),
        mask_key=row["mask_key"],
        original_sha256=row["original_sha256"],
        kind=row["kind"],
        area=row["area"],
        qes=row["qes"],
        source=row["source"],
        annotator=annotator,
    )
